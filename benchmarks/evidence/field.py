"""The field's own measures of a cell's pictures at its last checkpoint: CLIP-I, CLIP-T, DINO, KID, LPIPS.

CLIP is the pocket model's own unless a path to another is given; DINO and LPIPS need paths. The formulas are
`core.evaluation.metrics`'s. Figures lie beside the cell and are made again when encoders or pictures change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.evaluation.metrics import (
    ImageEncoder,
    PictureDistance,
    diversity,
    image_similarity,
    kernel_distance,
    load_image_encoder,
    load_lpips,
    prompt_alignment,
    without_identifier,
)
from ...core.evaluation.metrics.kernel_distance import has_torchmetrics
from ...core.model.image_text import ImageTextEncoder, load_image_text
from ...pocket.image_text import transformers_folder
from ...pocket.subjects import class_noun
from .bench import IDENTIFIER, PROMPTS, Prompt
from .cell_files import cell_path, write_cell
from .measures import Pictures
from .pictures import read_pictures

POCKET = "pocket"


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What looks at the pictures.

    Attributes:
        clip: for CLIP-I, CLIP-T, and for KID where there is no DINO.
        dino: for DINO and KID.
        lpips: for the diversity of DreamBooth's DIV.
        digest: of the files, so that figures of others are not taken for theirs.
        names: for the report.
    """

    clip: ImageTextEncoder
    dino: ImageEncoder | None = None
    lpips: PictureDistance | None = None
    digest: str
    names: Mapping[str, str]


def load_encoders(clip: str = POCKET, dino: str | None = None, lpips: str | None = None) -> Encoders:
    """Encoders by path; nothing is downloaded.

    Args:
        clip: the folder of a transformers CLIP, or 'pocket'.
        dino: the folder of a transformers DINO.
        lpips: torchvision's weights of AlexNet, VGG16 or SqueezeNet 1.1.

    Raises:
        InputError: as the loaders of `core`.
    """
    folder = transformers_folder() if clip == POCKET else Path(clip)
    loaded = load_image_text(folder)
    paths = {"CLIP": clip, "DINO": dino, "LPIPS": lpips}
    return Encoders(clip=loaded, dino=load_image_encoder(dino) if dino else None,
                    lpips=load_lpips(lpips) if lpips else None, digest=digest_of([folder, dino, lpips]),
                    names={name: Path(path).name for name, path in paths.items() if path})


def digest_of(paths: Sequence[str | Path | None]) -> str:
    """Of names, sizes and the first and last bytes of all weights: a change of file changes it."""
    found = hashlib.sha256()
    for path in paths:
        place = Path(path) if path else None
        files = sorted(place.glob("*")) if place and place.is_dir() else [place] if place else []
        for file in files:
            if file.suffix in {".safetensors", ".bin", ".pth", ".json"}:
                with file.open("rb") as opened:
                    head = opened.read(1 << 20)
                    opened.seek(max(0, file.stat().st_size - (1 << 20)))
                    found.update(f"{file.name} {file.stat().st_size}".encode() + head + opened.read())
    return found.hexdigest()[:12]


@torch.no_grad()
def field_measures(pictures: Pictures, references: Tensor, noun: str, prompts: Sequence[Prompt],
                   encoders: Encoders) -> dict[str, float]:
    """The figures that these encoders can give.

    Args:
        pictures: what the method made at one checkpoint.
        references: the photos, (N, 3, H, W) in 0..1.
        noun: the subject's own class noun; CLIP reads it in place of 'identifier noun'.
        prompts: those of `pictures.prompted`.
        encoders: what looks at them.
    """
    texts = [without_identifier(prompt.text(IDENTIFIER, noun), IDENTIFIER) for prompt in prompts]
    rounds = len(pictures.prompted) // len(texts)
    found = {"CLIP-I": image_similarity(encoders.clip, pictures.prompted, references),
             "CLIP-T": prompt_alignment(encoders.clip, pictures.prompted, texts * rounds)}
    if encoders.dino is not None:
        found["DINO"] = image_similarity(encoders.dino, pictures.prompted, references)
    if has_torchmetrics() and min(len(pictures.plain), len(references)) > 1:
        found["KID"] = kernel_distance(encoders.dino or encoders.clip, pictures.plain, references).mean
    if encoders.lpips is not None:
        found["LPIPS"] = diversity(encoders.lpips, pictures.plain)
    return found


def field_of_cells(keys: Sequence[tuple[str, int, int]], folder: Path,
                   encoders: Encoders) -> dict[tuple[str, int, int], dict[str, float]]:
    """The last checkpoint's figures of every cell whose pictures are in the folder."""
    made = partial(_figures, encoders=encoders)
    found = {key: made(cell_path(folder, *key, ".npz"), key[1]) for key in keys}
    return {key: figures for key, figures in found.items() if figures is not None}


def _figures(path: Path, number: int, encoders: Encoders) -> dict[str, float] | None:
    """From disk where these pictures were shown to these encoders before; None without pictures."""
    if not path.exists():
        return None
    stamp: Any = f"{encoders.digest} {path.stat().st_size} {path.stat().st_mtime_ns}"
    kept = path.with_suffix(".field.json")
    if kept.exists() and (found := json.loads(kept.read_text(encoding="utf-8")))["made_from"] == stamp:
        return dict(found["figures"])
    references, _, drawn = read_pictures(path)
    figures = field_measures(drawn[-1], references, class_noun(number), PROMPTS, encoders)
    write_cell(kept, {"made_from": stamp, "figures": figures})
    return figures
