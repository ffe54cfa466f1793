"""How good is the pocket model? The card's figures, from the exported tensors' working files.

`python -m pocket.evaluate --captions 500 [--photos ../shared/photos]` writes `pocket/figures.json` and a sheet.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from .autoencoder import decode, load_decoder, prepare_transform, psnr
from .generator import load_ema
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
from .sampling import sample_latents
from .taesd import Decoder
from .world import SEEDS, Scene, render, subject, training_scene
from .world_scenes import CONTEXTS, PHRASES
from .world_shapes import NOUNS

FIGURES: Final = Path(__file__).with_name("figures.json")
STEPS, CFG_SCALE, BATCH = 25, 3.0, 25
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


def generate(work: Path, scenes: list[Scene], decoder: Decoder) -> torch.Tensor:
    """One picture per caption, (B, 3, H, W) in [0, 1]."""
    generator, pictures = load_ema(work), []
    for start in range(0, len(scenes), BATCH):
        captions = [s.caption for s in scenes[start:start + BATCH]]
        latents = sample_latents(generator, captions, steps=STEPS, cfg_scale=CFG_SCALE, seed=start)
        pictures.append(torch.cat([decode(decoder, part) for part in latents.split(8)]))
    return torch.cat(pictures)


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


def evaluate(work: Path, captions: int = 500, photos: Path | None = None) -> dict[str, Any]:
    """Measures everything and writes `figures.json` and `sheet.png` (in the working folder)."""
    transform, decoder, judge = prepare_transform(work), load_decoder(work), load_judge(JUDGE_FILE)
    scenes = held_out_captions(captions)
    truth = torch.tensor([truth_of(s) for s in scenes])
    own = judge_figures(judge, transform, decoder, scenes)
    pictures = generate(work, scenes, decoder)
    reached = accuracy(judge, pictures, truth)
    figures: dict[str, Any] = {
        "captions": captions, "sampler": f"ancestral, {STEPS} steps, cfg {CFG_SCALE}",
        "generator_steps": torch.load(work / "generator.pt", weights_only=True)["step"],
        "judge": own, "judge_identity": identity_figures(judge, transform, decoder), "generator": reached,
        "generator_relative": {k: reached[k] / own["through_autoencoder"][k] for k in reached},
        "per_group": per_group(pictures, truth, judge),
        "autoencoder_psnr": {"world": psnr(decoder, transform, stack(scenes[:100]))},
    }
    if photos is not None and photos.is_dir():
        figures["autoencoder_psnr"] |= photo_psnr(photos, decoder, transform)
    FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    write_sheet(pictures[:60], work / "sheet.png")
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
