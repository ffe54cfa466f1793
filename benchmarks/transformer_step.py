"""What a training step of a transformer costs: against a bare loop, with texts of two lengths in the batch, and on
weights of 8 bits or streamed ones against resident ones.

    python benchmarks/transformer_step.py [--rounds 3] [--steps 10] [--write]

Networks in ComfyUI's own classes with random weights, float32, two rows, LoRA of rank 16 on attention. The bare loop
calls ComfyUI's network as the trainer does (which calls with which texts is taken from one step of it), with peft's
LoRA on the same layers, MSE, backward, AdamW. Each run is its own process with one thread; competitors alternate.
Process-CPU seconds from one optimiser step to the next, median after a warm-up; peak memory is the resident high-water
mark above what the process held with the loaded model.

There is no card: streamed layers are lent copies in memory, as tests/nodes/bridge/streamed_models.py says, and a CPU
computes in float32 whatever a weight is stored in. So these figures say what the way of computing costs, not what a
card does with it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dci_sampling import peak_memory, reset_peak_memory, start_comfyui
from training_step import processor

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "transformer_step.md"
WARM_UP = 2
NETWORKS: dict[str, dict[str, Any]] = {
    "flux": {"hidden_size": 1024, "num_heads": 8, "depth": 2, "depth_single_blocks": 4},
    "z_image": {"dim": 1024, "n_heads": 8, "n_kv_heads": 8, "n_layers": 4},
    "qwen_image": {"num_attention_heads": 8, "num_layers": 4},
}
LENGTHS = {"flux": (256, 313), "z_image": (128, 60), "qwen_image": (128, 60)}
LATENT = 32
BARE, OURS = "bare loop", "our trainer"
STORED = {"resident, float32": "", "scaled fp8": "scaled fp8", "int8": "int8", "streamed, float32": "streamed"}
STEP_LIMIT, EIGHT_BIT_LIMIT, STREAMED_LIMIT = 1.05, 1.15, 1.6

Round = dict[str, dict[str, float]]
Opened = Callable[[], AbstractContextManager[Any]]
"""Makes the context in which a MODEL can be trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help=f"of which the first {WARM_UP} are not counted")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--worker", nargs=2, metavar=("NETWORK", "COMPETITOR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        parser.error(f"--steps: got {options.steps}, expected more than the {WARM_UP} that are not counted")
    if options.worker:
        print(json.dumps(measure(options.worker[0], options.worker[1], options.steps)))
        return
    steps = {name: compare(name, [BARE, OURS], options) for name in NETWORKS}
    ways = compare("flux", list(STORED), options)
    report = page(steps, ways, options)
    print(report)
    if options.write:
        RESULTS.write_text(report, encoding="utf-8")


def compare(network: str, names: list[str], options: argparse.Namespace) -> list[Round]:
    """Every competitor once a round, each in a process of its own."""
    orders = (names if number % 2 == 0 else names[::-1] for number in range(options.rounds))
    return [{name: in_new_process(network, name, options.steps) for name in order} for order in orders]


def in_new_process(network: str, name: str, steps: int) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--steps", str(steps), "--worker", network, name]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def measure(network: str, name: str, steps: int) -> dict[str, float]:
    """CPU seconds a step and peak MB of one competitor in this process."""
    start_comfyui()
    sys.path[:0] = [str(path) for path in (ROOT / "tests" / "nodes", *(ROOT / "tests" / "nodes").rglob("*/"))
                    if path.is_dir()]
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(1)
    rig, opened = rig_of(network, STORED.get(name, ""))
    train = (bare if name == BARE else ours)(rig, opened, steps)
    gc.collect()
    before = reset_peak_memory()
    ends: list[float] = []
    register_optimizer_step_post_hook(lambda *_: ends.append(time.process_time()))
    train()
    seconds = [end - start for start, end in zip(ends, ends[1:], strict=False)][WARM_UP - 1:]
    return {"cpu_s": statistics.median(seconds), "peak_mb": (peak_memory() - before) / 1e6,
            "weights_mb": rig.model.model_size() / 1e6}


def ours(rig: Any, opened: Opened, steps: int) -> Callable[[], None]:
    """Our trainer on two photos of noise, whose captions have different lengths."""
    def train() -> None:
        with opened(), trainer_of(rig, steps) as trainer:
            for _ in trainer.steps():
                pass

    return train


def bare(rig: Any, opened: Opened, steps: int) -> Callable[[], None]:
    """The same calls of the network in the smallest honest loop."""
    def train() -> None:
        import torch
        from peft import LoraConfig, inject_adapter_in_model

        with opened():
            module, targets = rig.denoiser().module, adapted(rig)
            with trainer_of(rig, 2) as trainer:
                calls = calls_of(module, trainer)
            module.requires_grad_(False)
            inject_adapter_in_model(LoraConfig(r=16, lora_alpha=16, target_modules=targets), module)
            optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-4)
            for _ in range(steps):
                for (noisy, *others), named in calls:
                    prediction = module(torch.randn_like(noisy), *others, **named)
                    (prediction - noisy).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()

    return train


def calls_of(module: Any, trainer: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """With what a step of the trainer calls the network: its second one, since the first also tries whether texts of
    different lengths can share a call."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = module.register_forward_pre_hook(lambda _, args, named: found.append((args, named)), with_kwargs=True)
    try:
        for step in trainer.steps():
            if step.step == 1:
                found.clear()
    finally:
        handle.remove()
    return found


def adapted(rig: Any) -> list[str]:
    """Names of the layers that a LoRA on attention adapts."""
    from comfyui_personalize.core.learning.adapter import AdapterConfig, find_targets

    return list(find_targets(rig.denoiser().module, AdapterConfig(rank=16, alpha=16.0)))


def trainer_of(rig: Any, steps: int) -> Any:
    """Two photos in a batch of two, each with a caption of its own."""
    from comfyui_personalize.benchmarks.every_family.rig import CAPTION, CLASS_PROMPT
    from comfyui_personalize.benchmarks.every_family.training import trainer_on
    from comfyui_personalize.core.learning.adapter import AdapterConfig
    from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions

    options = TrainingOptions(adapter=AdapterConfig(rank=16, alpha=16.0), precision="fp32",
                              gradient_checkpointing="off")
    return trainer_on(rig, TrainingConfig(steps=steps, learning_rate=1e-4, batch=2, resolution=8 * LATENT,
                                          options=options), captions=(CAPTION, CLASS_PROMPT))


def rig_of(network: str, stored: str) -> tuple[Any, Opened]:
    """The network as it is stored, and the context in which it can be trained."""
    import torch

    from comfyui_personalize.benchmarks.every_family.cases import CASES
    from comfyui_personalize.benchmarks.every_family.networks import build_model
    from comfyui_personalize.benchmarks.every_family.rig import Rig
    from comfyui_personalize.core.model.storage import Placement
    from comfyui_personalize.nodes.bridge.model.gradients import trainable

    small = CASES[network]
    case = replace(small, network={**small.network, **NETWORKS[network]}, lengths=LENGTHS[network],
                   latent=(*small.latent[:-2], LATENT, LATENT))
    model, placement = build_model(case), Placement.RESIDENT
    if stored:
        from quantised_models import STORED as FORMATS
        from quantised_models import load, quantise

        weights = {name.replace("_norm.weight", "_norm.scale"): value
                   for name, value in model.model.diffusion_model.state_dict().items()}
        with torch.inference_mode():
            model = load(quantise(weights, FORMATS[stored])[0] if stored in FORMATS else weights)
        if stored not in FORMATS:
            model, placement = streamed(model), Placement.STREAMED
    return Rig(case, model), lambda: trainable(model, placement=placement)


def streamed(model: Any) -> Any:
    """The MODEL, of which ComfyUI is told that a third fits."""
    import pytest
    from streamed_models import lend, on_another_device

    return on_another_device(model, lend(pytest.MonkeyPatch()))


# The report


def page(steps: dict[str, list[Round]], ways: list[Round], options: argparse.Namespace) -> str:
    lines = [f"""# What a training step of a transformer costs

`python benchmarks/transformer_step.py --rounds {options.rounds} --steps {options.steps} --write` on {processor()}, one
thread. Random weights in ComfyUI's classes (50 to 130 M), float32, latent {LATENT} x {LATENT}, two rows whose texts
have different lengths, LoRA of rank 16 on attention. CPU seconds a step, each run its own process, competitors
alternating; ratios are medians over rounds. Peak memory is what training
adds to the loaded model.

| | text tokens | bare loop, CPU s | our trainer, CPU s | ÷ | training adds MB: bare, ours |
|---|---|---|---|---|---|"""]
    for network, rounds in steps.items():
        lines.append(f"| {network} | {', '.join(map(str, LENGTHS[network]))} | {each(rounds, BARE)} | "
                     f"{each(rounds, OURS)} | **{ratio(rounds, OURS, BARE):.3f}** | "
                     f"{middle(rounds, BARE, 'peak_mb'):.0f}, {middle(rounds, OURS, 'peak_mb'):.0f} |")
    lines.append(f"""
Wanted: at most {STEP_LIMIT}.

## In 8 bits, and streamed

Our trainer on the Flux-like network. On a CPU there is nothing to stream over: streamed layers are lent copies in
memory. Wanted **on a card**, where none of this was measured yet: 8 bits ÷ resident at most {EIGHT_BIT_LIMIT}, streamed
÷ resident at most {STREAMED_LIMIT}.

| | CPU s a step | ÷ resident | weights MB | training adds MB |
|---|---|---|---|---|""")
    resident = next(iter(STORED))
    for name in STORED:
        lines.append(f"| {name} | {each(ways, name)} | {ratio(ways, name, resident):.3f} | "
                     f"{middle(ways, name, 'weights_mb'):.0f} | {middle(ways, name, 'peak_mb'):.0f} |")
    return "\n".join(lines) + "\n"


def each(rounds: list[Round], name: str) -> str:
    return " ".join(f"{entry[name]['cpu_s']:.2f}" for entry in rounds)


def ratio(rounds: list[Round], name: str, other: str) -> float:
    return statistics.median(entry[name]["cpu_s"] / entry[other]["cpu_s"] for entry in rounds)


def middle(rounds: list[Round], name: str, figure: str) -> float:
    return statistics.median(entry[name][figure] for entry in rounds)


if __name__ == "__main__":
    main()
