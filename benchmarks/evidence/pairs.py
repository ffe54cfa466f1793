"""The bench's own paired comparison: a blind page on which people choose between methods' pictures of one subject.

    python -m comfyui_personalize.benchmarks.evidence --report --pairs best dreambooth
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...core.errors import require
from ...core.evaluation.metrics import without_identifier
from ...core.evaluation.paired_page import write_page
from ...pocket.subjects import class_noun
from .bench import IDENTIFIER, PROMPTS
from .cell_files import cell_path
from .methods import METHODS
from .pictures import read_pictures

PER_SHEET = 25


def write_pairs(folder: Path, names: Sequence[str], number: int, out: Path, seed: int = 0) -> Path:
    """`core.evaluation.paired_page` of the last checkpoints' 25 prompts.

    Args:
        folder: where the cells' pictures are.
        names: two or more methods.
        number: the subject.
        out: the HTML file.
        seed: the cells' training seed, and the page's.

    Raises:
        InputError: for a method without pictures of the subject, and as `write_page`.
    """
    files = {name: cell_path(folder, name, number, seed, ".npz") for name in names}
    for name, path in files.items():
        require(name in METHODS and path.exists(), "pairs", repr(name), f"methods with pictures of subject {number}",
                "Run the method first.")
    read = {METHODS[name].title: read_pictures(path) for name, path in files.items()}
    prompts = [without_identifier(prompt.text(IDENTIFIER, class_noun(number)), IDENTIFIER) for prompt in PROMPTS]
    references = list(next(iter(read.values()))[0])
    return write_page({title: drawn[-1].prompted for title, (_, _, drawn) in read.items()}, prompts, references, out,
                      f"Pocket subject {number}", seed, PER_SHEET)
