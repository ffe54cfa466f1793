"""DreamBooth's figure 14 on the pocket upscaler: no fine-tuning, fine-tuning at the usual noise, at low noise.

    python benchmarks/super_resolution.py [--subjects 8 9 10] [--steps 120] [--write]

Held-out subjects of the world; four photos of each are trained on, others in other places are made small and upscaled
again, so that the truth is known. Everything goes through PersonalizeSuperResolution's own code, on the CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "super_resolution.md"
SHEET = RESULTS.with_suffix(".jpg")
FIGURES_FILE = RESULTS.with_suffix(".json")
"""Every subject's figures, for the claims of `benchmarks.evidence`."""
SIZE, TRAINED, TESTED = 96, 4, 6
RATE, BATCH, RANK, SAMPLING_STEPS = 5e-4, 4, 16, 6
FIGURES = ("PSNR, dB", "gradient error", "judge's cosine")
HEADER = """# Figure 14: personalized super-resolution

`{command}`: pocket upscaler, 24 to 96
pixels, {subjects} held-out subjects; {steps} steps at {rate:g}, batch {batch}, rank {rank} on {trained} photos of each;
{tested} other scenes of each are made small and upscaled again (Euler, simple, {sampling} steps, cfg 1, one seed). PSNR
over the whole picture; gradient error = mean absolute difference of neighbouring pixels' differences, in 0..255;
judge's cosine = identity of the upscaled picture against the trained photos. Means and standard deviations over
subjects. Level 8 is ComfyUI's nearest to the paper's usual variance 1e-3; low is trained at 1e-5 and told level 0.

| | {figures} |
|---|{columns}|
"""


def load_models() -> tuple[Any, Any, Any]:
    """MODEL and VAE of the pocket upscaler, CLIP of the pocket checkpoint."""
    import comfy.sd

    from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket

    register_pocket()
    load = comfy.sd.load_checkpoint_guess_config
    with torch.inference_mode():
        model, _, vae = load(str(CHECKPOINTS / "pocket_upscaler.safetensors"))[:3]
        clip = load(str(CHECKPOINTS / "pocket.safetensors"), output_vae=False, output_model=False)[1]
    return model, clip, vae


def draw(subject: int) -> Tensor:
    """Scenes of one held-out subject, (10, 96, 96, 3) in 0..1."""
    from comfyui_personalize.pocket.subjects import subject_photos

    scenes = subject_photos(subject, TRAINED + TESTED, size=SIZE)
    return torch.from_numpy(np.stack([scene.pixels for scene in scenes])).float() / 255


def gradient_error(pictures: Tensor, truth: Tensor) -> float:
    """Mean absolute difference of the differences of neighbouring pixels, in 0..255."""
    errors = [(pictures.diff(dim=axis) - truth.diff(dim=axis)).abs().mean() for axis in (1, 2)]
    return 255 * float(torch.stack(errors).mean())


def identity(pictures: Tensor, photos: Tensor) -> float:
    """Mean cosine of the judge's identities of (N, H, W, 3) and (M, H, W, 3)."""
    from comfyui_personalize.benchmarks.evidence.measures import answers, cosine

    return cosine(*(answers(part.movedim(-1, 1))["identity"] for part in (pictures, photos)))


def methods(models: tuple[Any, Any, Any], photos: Tensor, noun: str,
            steps: int) -> Iterator[tuple[str, Any, int]]:
    """Name, upscaler and level of every way to upscale."""
    from comfyui_personalize.core.subject.subject import Photo, Subject
    from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
    from comfyui_personalize.nodes.bridge.sampling.sampling import patched
    from comfyui_personalize.nodes.bridge.super_resolution.training import UpscalerRequest, personalize_upscaler
    from comfyui_personalize.nodes.bridge.super_resolution.upscaler import LOW, USUAL, pairs_objective, upscaler_adapter

    model, clip, vae = models
    usual = pairs_objective(model, USUAL, SIZE).level
    yield f"no fine-tuning, level {usual}", model, usual
    yield "no fine-tuning, level 0", model, 0
    subject = Subject(identifier="sks", class_noun=noun, photos=tuple(Photo(pixels=photo) for photo in photos))
    for noise, name in ((USUAL, f"usual noise, level {usual}"), (LOW, "low noise, level 0")):
        pairs = pairs_objective(model, noise, SIZE)
        config = TrainingConfig(steps=steps, learning_rate=RATE, batch=BATCH, resolution=SIZE, objectives=(pairs,),
                                options=TrainingOptions(adapter=upscaler_adapter(model, RANK)))
        request = UpscalerRequest(model=model, clip=clip, vae=vae, subjects=(subject,), config=config,
                                  run_name="figure_14")
        with torch.inference_mode():
            result = personalize_upscaler(request)
        yield name, patched(model, None, result.lora)[0], pairs.level


def measure(models: tuple[Any, Any, Any], number: int,
            steps: int) -> tuple[dict[str, tuple[float, ...]], Tensor]:
    """Figures of every method on one subject, and a row of pictures."""
    from comfyui_personalize.core.data.low_res_pairs import low_res
    from comfyui_personalize.nodes.bridge.super_resolution.sheet import psnr
    from comfyui_personalize.nodes.bridge.super_resolution.upscaler import upscale
    from comfyui_personalize.pocket.subjects import class_noun

    noun, scenes = class_noun(number), draw(number)
    photos, truth = scenes[:TRAINED], scenes[TRAINED:]
    low = torch.stack([low_res(picture) for picture in truth])
    bicubic = functional.interpolate(low / 2 + 0.5, scale_factor=4, mode="bicubic").movedim(1, -1).clamp(0, 1)
    made = {"bicubic": bicubic}
    for name, model, level in methods(models, photos, noun, steps):
        made[name] = upscale(model, models[1], models[2], low, prompt=f"a sks {noun}", level=level,
                             steps=SAMPLING_STEPS, cfg=1.0, seed=0)
    made["the scenes themselves"] = truth
    figures: dict[str, tuple[float, ...]] = {
        name: (psnr(pictures, truth), gradient_error(pictures, truth), identity(pictures, photos))
        for name, pictures in made.items()}
    return figures, torch.cat([pictures[0] for pictures in made.values()], dim=1)


def table(results: list[dict[str, tuple[float, ...]]]) -> str:
    """A row for every method: mean and standard deviation over subjects."""
    rows = []
    for name in results[0]:
        cells = []
        for place, digits in enumerate((2, 2, 3)):
            values = [figures[name][place] for figures in results]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            is_exact = name == "the scenes themselves" and place < 2
            cells.append("" if is_exact else f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


COMPARED = (
    ("low noise, level 0", "no fine-tuning, level 0", "what training at low noise gives"),
    ("usual noise, level 8", "no fine-tuning, level 8", "what training at the usual noise gives"),
    ("no fine-tuning, level 0", "no fine-tuning, level 8", "what the level told at sampling gives, without training"),
    ("low noise, level 0", "usual noise, level 8", "the paper's comparison: training and level together"),
)
"""Pairs of rows, the first minus the second, and what the difference is of."""


def reading(results: list[dict[str, tuple[float, ...]]]) -> str:
    """Paired differences over subjects, with 95 % bootstrap intervals."""
    from comfyui_personalize.benchmarks.evidence.intervals import estimate

    lines = ["| paired difference | PSNR, dB | gradient error | of what |", "|---|---|---|---|"]
    for first, second, meaning in COMPARED:
        found = [estimate([figures[first][place] - figures[second][place] for figures in results]) for place in (0, 1)]
        lines.append(f"| {first} minus {second} | {found[0]} | {found[1]} | {meaning} |")
    return "\n".join(lines)


def write_figures(subjects: list[int], steps: int, results: list[dict[str, tuple[float, ...]]]) -> None:
    """Per subject and method: PSNR in dB, gradient error, the judge's cosine."""
    rows = {str(number): figures for number, figures in zip(subjects, results, strict=True)}
    FIGURES_FILE.write_text(json.dumps({"steps": steps, "figures": FIGURES, "subjects": rows}, indent=1) + "\n",
                            encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Figure 14 of DreamBooth on the pocket upscaler.")
    from comfyui_personalize.pocket.subjects import HELD_OUT

    parser.add_argument("--subjects", type=int, nargs="+", default=list(HELD_OUT), help="numbers of held-out subjects")
    parser.add_argument("--steps", type=int, default=120, help="training steps")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)} and a sheet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        from comfyui_personalize.benchmarks.evidence.comfy_process import start_comfyui

        start_comfyui(Path(base))
        models = load_models()
        measured = [measure(models, number, options.steps) for number in options.subjects]
    results, rows = [figures for figures, _ in measured], [row for _, row in measured]
    command = f"python benchmarks/super_resolution.py --subjects {' '.join(map(str, options.subjects))}"
    report = HEADER.format(command=f"{command} --steps {options.steps} --write", subjects=len(options.subjects),
                           steps=options.steps, rate=RATE, batch=BATCH, rank=RANK, trained=TRAINED, tested=TESTED,
                           sampling=SAMPLING_STEPS, figures=" | ".join(FIGURES),
                           columns="|".join("---" for _ in FIGURES)) + table(results) + f"\n\n{reading(results)}"
    print(report)
    if options.write:
        RESULTS.write_text(f"{report}\n", encoding="utf-8")
        write_figures(options.subjects, options.steps, results)
        Image.fromarray((torch.cat(rows) * 255).round().to(torch.uint8).numpy()).save(SHEET, quality=92)


if __name__ == "__main__":
    main()
