"""How good is the pocket model? The card's figures, of the committed checkpoint as users load it.

`python -m pocket.evaluate --captions 500 [--photos ../shared/photos]` writes into `pocket/figures.json` and draws a
sheet.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from .autoencoder import decode, psnr
from .config import DOWNSCALE
from .export import CHECKPOINT
from .generator import Generator
from .judge import (
    IGNORED,
    JUDGE_FILE,
    Judge,
    accuracy,
    labels_of,
    load_judge,
    scene_of,
    through_autoencoder,
    to_judge_size,
)
from .klt import Transform
from .published import load_published, load_published_decoder, load_published_transform, published_facts
from .sampling import sample_latents
from .taesd import Decoder
from .world import SEEDS, Scene, render, subject, training_scene
from .world_scenes import CONTEXTS, PHRASES
from .world_shapes import NOUNS

FIGURES: Final = Path(__file__).with_name("figures.json")
STEPS, CFG_SCALE, BATCH = 25, 3.0, 25
SAMPLERS: Final = {"ancestral": 1.0, "ddim": 0.0}
"""Samplers by their eta; half as many captions for the second, deterministic one."""
PHOTO_SIZES: Final = (512, 128)


def held_out_captions(count: int, start: int = 1000) -> list[Scene]:
    """Scenes of held-out seeds with described objects (individuals have no captions that describe them)."""
    seeds = SEEDS["held_out_scenes"][start:start + 2 * count]
    scenes = [scene for scene in map(training_scene, seeds) if not scene.name]
    return scenes[:count]


def truth_of(scene: Scene) -> tuple[int, int, int]:
    """What a caption promises: noun, and context and colour where it names them."""
    noun, context, colour = labels_of(scene)
    is_placed = scene.context != "plain" and scene.caption.endswith(PHRASES[scene.context])
    is_coloured = scene.look.colour in scene.caption.split()
    return noun, context if is_placed else IGNORED, colour if is_coloured else IGNORED


def stack(scenes: list[Scene]) -> torch.Tensor:
    """Pictures of scenes, (B, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.stack([render(s)[0] for s in scenes])).float() / 255


def judge_figures(judge: Judge, transform: Transform, decoder: Decoder, scenes: list[Scene]) -> dict[str, Any]:
    """The judge's own accuracy on held-out renders, raw and through the autoencoder."""
    pictures, truth = stack(scenes), torch.tensor([truth_of(s) for s in scenes])
    return {"raw": accuracy(judge, pictures.permute(0, 3, 1, 2), truth),
            "through_autoencoder": accuracy(judge, through_autoencoder(pictures, transform, decoder), truth)}


def identity_figures(judge: Judge, transform: Transform, decoder: Decoder, subjects: int = 48) -> dict[str, float]:
    """Cosines between held-out subjects through the autoencoder, and retrieval of 1 in `subjects`."""
    looks = [subject(i, NOUNS[i % len(NOUNS)]) for i in range(subjects)]
    sides = []
    for offset in (0, 5000):
        scenes = [scene_of(look, SEEDS["held_out_subjects"][500_000 + offset + i]) for i, look in enumerate(looks)]
        sides.append(judge(to_judge_size(through_autoencoder(stack(scenes), transform, decoder)))["identity"])
    cosine = sides[0] @ sides[1].T
    nouns = torch.arange(subjects) % len(NOUNS)
    is_same_noun = (nouns[:, None] == nouns) & ~torch.eye(subjects, dtype=torch.bool)
    return {"same_subject": cosine.diagonal().mean().item(), "same_noun": cosine[is_same_noun].mean().item(),
            "other_noun": cosine[nouns[:, None] != nouns].mean().item(),
            "retrieval_1_in_48": (cosine.argmax(-1) == torch.arange(subjects)).float().mean().item()}


def generate(generator: Generator, scenes: list[Scene], decoder: Decoder, eta: float) -> torch.Tensor:
    """One picture per caption, (B, 3, H, W) in [0, 1]."""
    pictures = []
    for start in range(0, len(scenes), BATCH):
        captions = [s.caption for s in scenes[start:start + BATCH]]
        latents = sample_latents(generator, captions, steps=STEPS, cfg_scale=CFG_SCALE, eta=eta, seed=start)
        pictures.append(torch.cat([decode(decoder, part) for part in latents.split(8)]))
    return torch.cat(pictures)


def roughness(pictures: torch.Tensor) -> float:
    """Mean difference of neighbouring 8 x 8 cells, in [0, 1]: coloured squares that a sampler left raise it."""
    cells = functional.avg_pool2d(pictures, DOWNSCALE)
    return ((cells.diff(dim=-1).abs().mean() + cells.diff(dim=-2).abs().mean()) / 2).item()


def photo_psnr(folder: Path, decoder: Decoder, transform: Transform) -> dict[str, float]:
    """Reconstruction of photos that no training saw, at 512 px and resized to 128 px."""
    values: dict[str, list[float]] = {str(size): [] for size in PHOTO_SIZES}
    for path in sorted(folder.glob("*/*.jpg")):
        for size in PHOTO_SIZES:
            photo = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
            picture = torch.from_numpy(np.array(photo)).float()[None] / 255
            values[str(size)].append(psnr(decoder, transform, picture))
    return {f"photos_{size}": float(np.mean(v)) for size, v in values.items() if v}


def write_sheet(pictures: torch.Tensor, path: Path, columns: int = 12) -> None:
    """A contact sheet, left to right, top to bottom."""
    size, rows = pictures.shape[-1], -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size))
    for i, picture in enumerate((pictures.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()):
        sheet.paste(Image.fromarray(picture), (i % columns * size, i // columns * size))
    sheet.save(path)


def per_group(pictures: torch.Tensor, truth: torch.Tensor, judge: Judge) -> dict[str, dict[str, float]]:
    """Accuracy of each noun and of each context: where the weak spots are."""
    answers = judge(to_judge_size(pictures))
    groups = {}
    for i, (key, names) in enumerate((("noun", NOUNS), ("context", CONTEXTS))):
        right = (answers[key].argmax(-1) == truth[:, i]).float()
        rows = {name: truth[:, i] == j for j, name in enumerate(names)}
        groups[key] = {name: right[row].mean().item() for name, row in rows.items() if row.any()}
    return groups


def evaluate(work: Path, captions: int = 500, photos: Path | None = None, path: Path = CHECKPOINT) -> dict[str, Any]:
    """Measures the file and writes `figures.json`, and `sheet.png` in the working folder."""
    transform, decoder = load_published_transform(path), load_published_decoder(path)
    judge, generator, scenes = load_judge(JUDGE_FILE), load_published(path), held_out_captions(captions)
    truth = torch.tensor([truth_of(s) for s in scenes])
    own = judge_figures(judge, transform, decoder, scenes)
    reference = through_autoencoder(stack(scenes[:100]), transform, decoder)
    figures: dict[str, Any] = {"captions": captions, "sampling": f"{STEPS} steps, cfg {CFG_SCALE}",
                               "checkpoint": published_facts(path), "judge": own,
                               "judge_identity": identity_figures(judge, transform, decoder),
                               "roughness": {"rendered, through the autoencoder": roughness(reference)}}
    sheet = []
    for name, eta in SAMPLERS.items():
        count = captions if eta else captions // 2
        pictures = generate(generator, scenes[:count], decoder, eta)
        reached = accuracy(judge, pictures, truth[:count])
        relative = {k: reached[k] / own["through_autoencoder"][k] for k in reached}
        figures[f"generator_{name}"] = {"captions": count, "reached": reached, "relative": relative}
        figures["roughness"][name] = roughness(pictures[:100])
        figures.setdefault("per_group", per_group(pictures, truth[:count], judge))
        sheet.append(pictures[:36])
    figures["autoencoder_psnr"] = {"world": psnr(decoder, transform, stack(scenes[:100]))}
    if photos is not None and photos.is_dir():
        figures["autoencoder_psnr"] |= photo_psnr(photos, decoder, transform)
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    kept = {key: value for key, value in kept.items() if key.startswith(("image_text", "upscaler"))}
    FIGURES.write_text(json.dumps(kept | figures, indent=1, sort_keys=True) + "\n")
    write_sheet(torch.cat(sheet), work / "sheet.png")
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the pocket model.")
    parser.add_argument("--work", type=Path, default=Path(".pocket"))
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    given = parser.parse_args()
    print(json.dumps(evaluate(given.work, given.captions, given.photos), indent=1))


if __name__ == "__main__":
    main()
