"""What comes before the first step, in training steps and seconds: class images, cold and kept, and the way into a run.

    python benchmarks/before_training.py [--count 200] [--rounds 3] [--write]

The nodes as a graph calls them, on the pocket model at the defaults of its recipe; five photos of a held-out subject.
Process-CPU seconds with one thread; pools, photos and texts are kept in a new folder each round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from dci_sampling import start_comfyui  # noqa: E402
from pocket_checkpoint import load  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "before_training.md"
PHOTOS, STEPS = 5, 40
SUBJECT = 8
"""A held-out one."""
CLASS_IMAGES_LIMIT, FIRST_STEP_LIMIT = 600, 3.0
"""Training steps that 200 class images may cost cold; seconds to the end of the first step on cached data."""


def timed(call: Callable[[], Any]) -> float:
    """Process-CPU seconds."""
    started = time.process_time()
    call()
    return time.process_time() - started


def measure(count: int) -> dict[str, float]:
    """Seconds of everything, in an output folder of its own."""
    import folder_paths
    import torch

    from comfyui_personalize.core.subject.subject import Photo, Subject
    from comfyui_personalize.nodes.personalize_trainer import PersonalizeTrainer
    from comfyui_personalize.nodes.prior_preservation import PriorPreservationNode
    from comfyui_personalize.nodes.prior_sample_gen import PriorSampleGen
    from comfyui_personalize.pocket.subjects import class_noun, subject_photos

    noun = class_noun(SUBJECT)
    photos = tuple(Photo(pixels=torch.from_numpy(picture.pixels.copy()) / 255)
                   for picture in subject_photos(SUBJECT, PHOTOS))
    subjects = (Subject(identifier="sks", class_noun=noun, photos=photos),)

    def call(node: Any, **inputs: Any) -> Any:
        return node.PREPARE_CLASS_CLONE(None).execute(**inputs).result

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        folder_paths.set_output_directory(folder)
        model, clip, vae = load()

        def class_images() -> Any:
            return call(PriorSampleGen, model=model, clip=clip, vae=vae, class_noun=noun, count=count, size=0,
                        sampler="auto", scheduler="auto", steps=0, cfg=0.0, seed=0, batch=4, shown=1)[0]

        def train(steps: int, seed: int, prior: bool = False) -> None:
            objective = None
            if prior:
                objective = call(PriorPreservationNode, prior=class_images(), source="class images", weight=1.0)[0]
            call(PersonalizeTrainer, model=model, clip=clip, vae=vae, subject=subjects, steps=steps,
                 learning_rate=0.0, batch=0, resolution=0, seed=seed, run_name=f"seed {seed}",
                 objective=objective)

        train(1, 0)  # what is read once in a process; each seed is another run, on the same kept data
        found = {"first": timed(lambda: train(1, 1))}
        found["step"] = (timed(lambda: train(1 + STEPS, 2)) - found["first"]) / STEPS
        found["cold"], found["kept"] = timed(class_images), timed(class_images)
        train(1, 3, prior=True)
        found["first with class images"] = timed(lambda: train(1, 4, prior=True))
        return found


def page(count: int, rounds: list[dict[str, float]]) -> str:
    """Markdown of all rounds and what is accepted."""
    middle = {name: statistics.median(entry[name] for entry in rounds) for name in rounds[0]}
    steps = middle["cold"] / middle["step"]
    first = max(middle["first"], middle["first with class images"])

    def verdict(ok: bool) -> str:
        return "accepted" if ok else "**not accepted**"

    rows = "\n".join(f"| {name} | {' '.join(f'{entry[key]:.2f}' for entry in rounds)} |" for name, key in (
        (f"{count} class images, cold", "cold"), (f"{count} class images, kept", "kept"), ("a training step", "step"),
        ("the trainer's node with one step, photos and texts kept", "first"),
        ("the same with class images", "first with class images")))
    return f"""# What comes before training

`python benchmarks/before_training.py --write`: the nodes on the pocket model at the defaults of its recipe, {PHOTOS}
photos, process-CPU seconds with one thread, by round; medians are compared.

| | CPU s, by round |
|---|---|
{rows}

- {count} class images cold cost as much as **{steps:.0f}** training steps of two photos (at most
  {CLASS_IMAGES_LIMIT}): {verdict(steps <= CLASS_IMAGES_LIMIT)}.
- Kept ones cost {middle["kept"]:.2f} s, which is the digest of the model, and no sampling.
- From the node's call to the end of a whole run of one step, data kept: {first:.2f} s (at most {FIRST_STEP_LIMIT:g}):
  {verdict(first <= FIRST_STEP_LIMIT)}.
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="class images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    given = parser.parse_args()
    start_comfyui()
    import torch

    torch.set_num_threads(1)
    report = page(given.count, [measure(given.count) for _ in range(given.rounds)])
    print(report)
    if given.write:
        RESULTS.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
