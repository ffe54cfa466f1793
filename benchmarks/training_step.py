"""What a training step costs: our trainer and ComfyUI's TrainLoraNode, as ratios to the bare loop of bare_loop.py.

    python benchmarks/training_step.py [--batches 1 2] [--rounds 3] [--steps 12] [--write]

The network has 107 M random weights with Stable Diffusion 1.5's structure (channels 320 and 640, one block per
level, latent 16 x 16, fp32); step time does not depend on the weights. Each run is its own process with one thread;
competitors alternate. Process-CPU seconds from one optimiser step to the next, median after a warm-up; peak memory
is the resident high-water mark while training, above what the process held with the loaded model.
"""

from __future__ import annotations

import argparse
import atexit
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "training_step.md"
WARM_UP = 3
BARE, CORE, COMFYUI, PRIOR, NODE = (
    "bare loop",
    "our trainer, diffusers UNet",
    "our trainer in ComfyUI",
    "our trainer in ComfyUI, half prior rows",
    "TrainLoraNode",
)
LIMITS = {1: (1.10, 0.45), 2: (1.10, 0.35)}
"""Accepted ratios to the bare loop and to TrainLoraNode, by batch."""

Measured = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a training step costs, as ratios.")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2], help="rows of a forward")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help=f"of which the first {WARM_UP} are not counted")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--worker", nargs=2, metavar=("COMPETITOR", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker[0], int(options.worker[1]), options.steps)))
        return
    report = "\n\n".join(table(batch, compare(batch, options.rounds, options.steps)) for batch in options.batches)
    print(report)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(f"{header(options.rounds, options.steps)}\n{report}\n", encoding="utf-8")


def header(rounds: int, steps: int) -> str:
    return f"""# What a training step costs

`python benchmarks/training_step.py --rounds {rounds} --steps {steps} --write` on {processor()}, one thread.
107 M weights (channels 320 and 640, one block per level), latent 16 x 16, fp32, LoRA of rank 16 on attention.
CPU seconds per step (median after {WARM_UP} steps), each run its own process, competitors alternating; ratios are
medians over rounds. The machine was shared: trust a ratio to about 0.05. Memory is what training adds to the
loaded model. TrainLoraNode runs in fp32 without checkpointing, as ours does; with a caption per photo it
evaluates B x B rows.
"""


def processor() -> str:
    """The machine's class."""
    information = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in information.read_text().splitlines()
             if line.startswith("model name")] if information.exists() else []
    return f"{os.cpu_count()} x {names[0] if names else platform.processor() or platform.machine()}"


def competitors(batch: int) -> list[str]:
    return [BARE, CORE, COMFYUI, *([PRIOR] if batch % 2 == 0 else []), NODE]


def compare(batch: int, rounds: int, steps: int) -> list[Measured]:
    """One measurement of every competitor per round, each in a process of its own."""
    names = competitors(batch)
    orders = (names if number % 2 == 0 else names[::-1] for number in range(rounds))
    return [{name: measure_in_new_process(name, batch, steps) for name in order} for order in orders]


def measure_in_new_process(name: str, batch: int, steps: int) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--steps", str(steps), "--worker", name, str(batch)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def table(batch: int, rounds: list[Measured]) -> str:
    """Markdown of the medians over all rounds, and whether the ratios are accepted."""
    lines = [
        f"## {batch} row{'s' if batch > 1 else ''}",
        "",
        "| | CPU s per step, by round | ÷ bare loop | ÷ TrainLoraNode | peak MB |",
        "|---|---|---|---|---|",
    ]
    for name in competitors(batch):
        seconds = " ".join(f"{entry[name]['cpu_s']:.3f}" for entry in rounds)
        memory = statistics.median(entry[name]["peak_mb"] for entry in rounds)
        lines.append(
            f"| {name} | {seconds} | {ratio(rounds, name, BARE):.3f} | {ratio(rounds, name, NODE):.3f} | {memory:.0f} |"
        )
    if batch in LIMITS:
        lines += [
            "",
            *(
                verdict(name, ratio(rounds, name, other), limit, other)
                for name in (CORE, COMFYUI)
                for other, limit in zip((BARE, NODE), LIMITS[batch], strict=True)
            ),
        ]
    return "\n".join(lines)


def ratio(rounds: list[Measured], name: str, other: str) -> float:
    return statistics.median(entry[name]["cpu_s"] / entry[other]["cpu_s"] for entry in rounds)


def verdict(name: str, value: float, limit: float, other: str) -> str:
    word = "accepted" if value <= limit else "**not accepted**"
    return f"- {name} ÷ {other}: {value:.3f}, limit {limit:.2f}: {word}."


def measure(name: str, rows: int, steps: int) -> dict[str, float]:
    """CPU seconds per step and peak MB of one competitor in this process."""
    from dci_sampling import peak_memory, reset_peak_memory, start_comfyui

    start_comfyui()
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(1)
    train = {BARE: bare, CORE: core, COMFYUI: in_comfyui, PRIOR: with_prior, NODE: train_lora_node}[name](rows, steps)
    ends: list[float] = []
    register_optimizer_step_post_hook(lambda *_: ends.append(time.process_time()))
    before = reset_peak_memory()
    train()
    seconds = [end - start for start, end in zip(ends, ends[1:], strict=False)][WARM_UP - 1:]
    return {"cpu_s": statistics.median(seconds), "peak_mb": (peak_memory() - before) / 1e6}


# Each of these loads a model, and gives what trains it.


def bare(rows: int, steps: int) -> Callable[[], None]:
    import bare_loop

    unet = bare_loop.small_unet()
    return lambda: bare_loop.train(unet, rows, steps)


def core(rows: int, steps: int) -> Callable[[], None]:
    import bare_loop
    import torch

    from comfyui_personalize.core.model.contracts import concat_rows
    from comfyui_personalize.core.model.schedule import NoiseSchedule

    class Denoiser:
        module = bare_loop.small_unet()
        device = torch.device("cpu")
        schedule = NoiseSchedule.variance_preserving("epsilon", torch.linspace(0.03, 14.6, 1000), torch.arange(1000))
        adapter_keys = {path: path for path, _ in module.named_modules()}

        def __call__(self, noisy: Any, index: Any, rows: Any) -> Any:
            return self.module(noisy, self.schedule.timesteps[index], concat_rows(rows)[0]).sample

    return lambda: run_trainer(Denoiser(), rows, steps)


def in_comfyui(rows: int, steps: int, prior: bool = False) -> Callable[[], None]:
    import torch

    from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
    from comfyui_personalize.nodes.bridge.model.gradients import static_patcher, trainable

    with torch.inference_mode():  # as ComfyUI's loaders run
        model = static_patcher(small_model())

    def train() -> None:
        with trainable(model):
            run_trainer(ComfyDenoiser(model, 128), rows, steps, prior)

    return train


def with_prior(rows: int, steps: int) -> Callable[[], None]:
    return in_comfyui(rows // 2, steps, prior=True)


def run_trainer(denoiser: Any, batch: int, steps: int, prior: bool = False) -> None:
    """Our trainer on two photos (and four class images) of noise."""
    import bare_loop

    from comfyui_personalize.benchmarks.noise_trainer import NoiseTexts, noise_trainer
    from comfyui_personalize.core.learning.adapter import AdapterConfig
    from comfyui_personalize.core.objectives import PriorPreservation
    from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions

    config = TrainingConfig(
        steps=steps, batch=batch, resolution=128, objectives=(PriorPreservation(),) if prior else (),
        options=TrainingOptions(adapter=AdapterConfig(rank=bare_loop.RANK, alpha=bare_loop.RANK)))
    with noise_trainer(denoiser, NoiseTexts(bare_loop.CONTEXT), config, photos=2, latent_size=bare_loop.LATENT,
                       class_images=4 if prior else 0) as trainer:
        for step in trainer.steps():
            assert math.isfinite(step.loss)


def train_lora_node(rows: int, steps: int) -> Callable[[], None]:
    import bare_loop
    import torch
    from comfy_extras.nodes_train import TrainLoraNode

    with torch.inference_mode():
        model = small_model()
        latents = [{"samples": torch.randn(rows, 4, bare_loop.LATENT, bare_loop.LATENT)}]
        positive = [[[torch.randn(1, bare_loop.TOKENS, bare_loop.CONTEXT), {}]] for _ in range(rows)]
    settings = {
        "batch_size": rows,
        "steps": steps,
        "grad_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "rank": 16,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "quantized_backward": False,
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "checkpoint_depth": 1,
        "offloading": False,
        "existing_lora": "[None]",
        "bucket_mode": False,
        "bypass_mode": False,
    }

    def train() -> None:
        with torch.inference_mode():
            TrainLoraNode.execute([model], latents, positive,
                                  **{name: [value] for name, value in settings.items()})

    return train


def small_model() -> Any:
    """The MODEL of random weights, through a file as stock loaders read it: TrainLoraNode reads it a second time."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.ops
    import comfy.sd
    import torch
    from dci_sampling import UNET_SHAPE, random_weight
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    unet = openaimodel.UNetModel(**UNET_SHAPE, dtype=torch.float32, device="meta",
                                 operations=comfy.ops.disable_weight_init)
    weights = {name: random_weight(name, value, generator) for name, value in unet.state_dict().items()}
    folder = tempfile.mkdtemp(prefix="personalize-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = Path(folder) / "small.safetensors"
    save_file(weights, file)
    del weights
    return comfy.sd.load_diffusion_model(str(file))


if __name__ == "__main__":
    main()
