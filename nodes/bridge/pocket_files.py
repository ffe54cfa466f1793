"""Which of the pocket models' files are missing or damaged, and which command brings them back?

A copy that was cut off, a disk that filled up, a pointer in place of a large file: stock loaders say of these that a
header is too large, or list nothing. The names are written out, so that this works without the folder `pocket`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import folder_paths

from ...core.errors import InputError

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = {
    "pocket.safetensors": ("checkpoints", "pocket/checkpoints/pocket.safetensors"),
    "pocket_upscaler.safetensors": ("checkpoints", "pocket/checkpoints/pocket_upscaler.safetensors"),
    "pocket_clip.safetensors": ("clip_vision", "pocket/image_text/pocket_clip.safetensors"),
}
"""What loaders offer: its kind in ComfyUI's folders, and its place in the extension."""
NAMES: Final = "pocket/names.json"


def flaw_of(path: Path) -> str | None:
    """What is wrong with a safetensors file, or a JSON file, that can be seen without reading its tensors; None if
    nothing is."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
            return None
        found, told = path.stat().st_size, _told_size(path)
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        return f"damaged ({type(error).__name__})"
    return None if found == told else f"damaged ({found:,} bytes, its header says {told:,})"


def _told_size(path: Path) -> int:
    """The bytes that a safetensors file has by its own header."""
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > path.stat().st_size - 8:
            raise ValueError("no header")
        header = json.loads(file.read(length))
    return 8 + length + max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")


def mending_command(place: str) -> str:
    """The command that brings a file of the extension back: git's where it was cloned, else a new installation."""
    if (ROOT / ".git").exists():
        return f'git -C "{ROOT}" checkout HEAD -- {place}'
    return "comfy node reinstall comfyui-personalize"


def flawed_files() -> dict[str, str]:
    """A sentence with the command that mends it for every file that is missing or damaged, by the file's name."""
    places = {name: place for name, (_, place) in FILES.items()} | {Path(NAMES).name: NAMES}
    return {name: _sentence(place, flaw) for name, place in places.items() if (flaw := flaw_of(ROOT / place))}


def _sentence(place: str, flaw: str) -> str:
    return f"{place} is {flaw}. It comes back with: {mending_command(place)}"


def warnings_of(graph: Any) -> Iterator[tuple[str, str]]:
    """(node, sentence) for every node of a queued graph that names a flawed file, unless it is another folder's.

    Args:
        graph: node id to a dictionary with `inputs`.
    """
    named = {(name, value) for name, node in graph.items() for value in node["inputs"].values()
             if isinstance(value, str) and value in FILES}
    flaws = flawed_files() if named else {}
    yield from ((name, flaws[value]) for name, value in sorted(named) if value in flaws and _is_ours(value))


def _is_ours(name: str) -> bool:
    """Whether ComfyUI takes our file for this name, or none."""
    kind, place = FILES[name]
    found = folder_paths.get_full_path(kind, name)
    return found is None or os.path.realpath(found) == os.path.realpath(ROOT / place)


def check_pocket_files(name: str, *places: str) -> None:
    """What an input named `name` needs is there and whole.

    Raises:
        InputError: with the command that mends it.
    """
    for place in places:
        if flaw := flaw_of(ROOT / place):
            raise InputError(name, f"{place}, which is {flaw}", "the file that comes with the extension",
                             f"Run: {mending_command(place)}")
