"""What training and DCI cost on an NVIDIA card, through the real nodes: `make gpu`.

    python benchmarks/gpu.py [--models sd15 sdxl] [--steps 12] [--plans SDXL Flux.1] [--wheels FOLDER] [--out FOLDER]
    python benchmarks/gpu.py --rehearse        the same on the CPU with tiny networks: does the script run?

Stable Diffusion 1.5 at 512 and SDXL at 1024 pixels, random weights in fp16 from a file that ComfyUI's own loader reads.
Against the smallest honest loop: diffusers' UNet in bf16, peft's LoRA of rank 16 on attention in fp32, autocast to
bf16, AdamW, one row, no gradient checkpointing.

- milliseconds a step and peak memory, as ratios; two runs in one process, after which as much is held as before;
- a cancel: what is kept, and that the next run goes on from it; the MODEL's weights bit for bit afterwards;
- guided sampling with DCI and without it, at the node's defaults;
- SDXL in 8 GB, Flux.1 and Z-Image in 10, Qwen-Image in 12, stored in 8 bits, in the way that is chosen (gpu_plans.py).

The result is written as Markdown and JSON. Needs torch, this checkout, ComfyUI (COMFYUI_DIR, or the one that setup
fetched) and the packages of both, which may also come as a folder of wheels: where torch and transformers are there,
diffusers, peft, comfy-kitchen, comfy-aimdo, torchsde, trampoline, av, blake3, SQLAlchemy, alembic, Mako, simpleeval,
pydantic and what it needs. Without a card it says so and ends well. --dynamic-vram switches on what ComfyUI's main.py
switches on for NVIDIA cards; without it models are loaded whole.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import types
from dataclasses import asdict
from pathlib import Path

from gpu_card import WARM_UP, machine
from gpu_measure import Figures, measure
from gpu_models import FULL, TINY
from gpu_plans import GOALS_GB, PLAN_STEPS, Outcome, measure_plan
from gpu_plans import report as plans_report

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description="What training and DCI cost on an NVIDIA card.")
    parser.add_argument("--models", nargs="+", default=["sd15", "sdxl"], choices=["sd15", "sdxl"])
    parser.add_argument("--steps", type=int, default=12, help=f"of a run, of which the first {WARM_UP} are not counted")
    parser.add_argument("--plans", nargs="*", default=list(GOALS_GB), choices=list(GOALS_GB),
                        help="large models to train on a part of the card; --plans alone: none")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to use beside what is installed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where gpu.md and gpu.json are written")
    parser.add_argument("--dynamic-vram", action="store_true", help="ComfyUI's dynamic VRAM, by comfy-aimdo")
    parser.add_argument("--rehearse", action="store_true", help="tiny networks on the CPU; figures mean nothing")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)7.0f ms  %(message)s")
    if options.wheels:
        use_wheels(options.wheels)
    import torch

    if not options.rehearse and not torch.cuda.is_available():
        print("make gpu: no NVIDIA card here, nothing was measured.")
        return
    with tempfile.TemporaryDirectory(prefix="personalize-gpu-") as folder:
        start_comfyui(Path(folder), on_cpu=options.rehearse)
        if options.dynamic_vram:
            use_dynamic_vram()
        models = TINY if options.rehearse else FULL
        figures = [measure(name, models[name], options.steps, Path(folder)) for name in options.models]
        plans = [measure_plan(name, PLAN_STEPS, is_rehearsal=options.rehearse) for name in options.plans]
    write(figures, plans, options.out, options)


def use_wheels(folder: Path) -> None:
    """Unpack the wheels into a temporary folder of packages, which is searched after what is installed."""
    target = tempfile.mkdtemp(prefix="personalize-site-")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile",
                    "--target", target, *map(str, sorted(folder.glob("*.whl")))], check=True)
    sys.path.append(target)


def start_comfyui(base: Path, on_cpu: bool) -> None:
    """Import the checkout as the package `comfyui_personalize`, and ComfyUI with a base directory of its own."""
    comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui" / "ComfyUI")
    sys.path.insert(0, str(comfyui))
    package = types.ModuleType("comfyui_personalize")
    package.__path__ = [str(ROOT)]
    sys.modules[package.__name__] = package
    from comfy.cli_args import args

    args.base_directory, args.cpu = str(base), on_cpu


def use_dynamic_vram() -> None:
    """Weights are faulted in as layers need them, as a server on an NVIDIA card has it by default."""
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    import comfy_aimdo.control

    comfy_aimdo.control.init()
    devices = [(device.index, 0) for device in comfy.model_management.get_all_torch_devices()]
    if not comfy_aimdo.control.init_devices(devices):
        raise RuntimeError("comfy-aimdo does not work with this card and driver")
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


# The report


def write(figures: list[Figures], plans: list[Outcome], folder: Path, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = report(figures, options) + (plans_report(plans) if plans else "")
    print(text)
    name = "gpu_rehearsal" if options.rehearse else "gpu"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    found = {"machine": machine(), "commit": commit(), "models": [asdict(one) for one in figures],
             "plans": [asdict(one) for one in plans]}
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def report(figures: list[Figures], options: argparse.Namespace) -> str:
    command = f"python benchmarks/gpu.py --models {' '.join(options.models)} --steps {options.steps}"
    command += " --dynamic-vram" if options.dynamic_vram else ""
    note = "\n\n**A rehearsal with tiny networks on a CPU: these figures mean nothing.**" if options.rehearse else ""
    rows = "\n".join(row(one) for one in figures)
    return f"""# On an NVIDIA card

`{command}` on {machine()}, commit {commit()}.
Random weights in fp16, batch 1, LoRA of rank 16 on attention; the bare loop, without gradient checkpointing, is
measured before and after ours, which decides about it by the free memory. Memory is the card's high-water mark, less
what text encoder and VAE hold.{note}

| model | ms a step: bare, ours, ÷ | peak GB: bare, ours, ÷ | GB held after run 1, 2 | cancelled at, resumed from \
| MODEL restored | sampling s: plain, DCI, ÷ |
|---|---|---|---|---|---|---|
{rows}
"""


def row(one: Figures) -> str:
    def ratio(ours: float, bare: float) -> str:
        return f"**{ours / bare:.2f}**" if bare else "–"

    return (f"| {one.model}, {one.size} px | {one.bare_ms:.0f}, {one.ours_ms:.0f}, {ratio(one.ours_ms, one.bare_ms)} "
            f"| {one.bare_gb:.2f}, {one.ours_gb:.2f}, {ratio(one.ours_gb, one.bare_gb)} "
            f"| {', '.join(f'{value:.3f}' for value in one.held_gb)} | {one.cancelled_at}, {one.resumed_from} "
            f"| {'bit for bit' if one.is_restored else '**no**'} "
            f"| {one.plain_ms / 1000:.2f}, {one.dci_ms / 1000:.2f}, {ratio(one.dci_ms, one.plain_ms)} |")


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
