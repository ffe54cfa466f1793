"""What DCI costs: a guided ComfyUI sampling run with two branches against the same run without, as a ratio.

    python benchmarks/dci_sampling.py [--sizes 16 32] [--rounds 3] [--write]
    python benchmarks/dci_sampling.py --memory 64 [--write]

The network is a UNet that ComfyUI detects as SD 1.5, channels (320, 640), one block per level, random
weights: time does not depend on them. Each run is its own process with one thread; plain and DCI alternate.
Process-CPU seconds of the sampling alone, after a short warm-up; peak memory is the process's resident
high-water mark while it warms up and samples, above what it held with the loaded model. Large latents take fewer steps,
with the same part of them in the window.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "dci_sampling.md"
MEMORY = RESULTS.with_name("dci_memory.md")
VARIANTS = ("plain", "dci")
MEMORY_STEPS, MEMORY_LIMIT = 3, 1.5
STEPS, CFG, WINDOW, LIMIT, WARM_UP = 20, 6.0, 0.3, 1.17, 2
STEPS_AT = {64: 10}
"""Latent sizes of shorter runs: 3 of 10 steps are in the window, as 6 of 20 are."""
UNET_SHAPE = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "channel_mult": [1, 2],
    "num_res_blocks": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1, "context_dim": 768, "num_heads": 8, "num_head_channels": -1,
    "use_spatial_transformer": True, "legacy": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What DCI costs, as a ratio to plain sampling.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64], help="latent sizes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--memory", type=int, help="only the peak memory, at this latent size, in a short run")
    parser.add_argument("--worker", nargs=3, metavar=("VARIANT", "SIZE", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker[0], int(options.worker[1]), int(options.worker[2]))))
        return
    if options.memory:
        report = memory(options.memory)
        print(report)
        if options.write:
            MEMORY.write_text(report, encoding="utf-8")
        return
    report = "\n\n".join(table(size, compare(size, options.rounds)) for size in options.sizes)
    print(report)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(f"{HEADER}\n{report}\n", encoding="utf-8")


HEADER = f"""# What DCI costs

`python benchmarks/dci_sampling.py --write`: ddim, `normal` scheduler, cfg {CFG:g}, one picture, window {WINDOW:g},
shared guidance; 107 M weights that ComfyUI detects as SD 1.5 (channels 320 and 640, one block per level), fp32, one CPU
thread, each run its own process, variants alternating. CPU time, on a machine that was shared: trust one ratio to about
0.05. Rows are counted at the network; memory is what sampling adds to the loaded model. Accepted: a median ratio of CPU
time up to {LIMIT:.2f}. Rows alone are 46 / 40 = 1.15. A step in the window is one network call of 3 rows, where plain
sampling makes one of 2 (with a ControlNet, or where memory is short: two calls).
"""


def compare(size: int, rounds: int) -> list[dict[str, dict[str, float]]]:
    """One measurement of every variant per round, each in a process of its own."""
    orders = (VARIANTS if number % 2 == 0 else VARIANTS[::-1] for number in range(rounds))
    steps = STEPS_AT.get(size, STEPS)
    return [{variant: measure_in_new_process(variant, size, steps) for variant in order} for order in orders]


def memory(size: int) -> str:
    """Markdown of the peak memory of a run of a few steps, one of them in the window."""
    plain, dci = (measure_in_new_process(variant, size, MEMORY_STEPS)["peak_mb"] for variant in VARIANTS)
    verdict = "accepted" if dci <= MEMORY_LIMIT * plain else "**not accepted**"
    return (f"# Memory that DCI needs\n\n`python benchmarks/dci_sampling.py --memory {size} --write`: the network and "
            f"settings of dci_sampling.md,\n{MEMORY_STEPS} steps at latent {size} x {size}, fp32 on a CPU. Sampling "
            f"adds to the loaded model {plain:.0f} MB plainly,\n{dci:.0f} MB with DCI: ratio **{dci / plain:.2f}**, "
            f"{verdict} (limit {MEMORY_LIMIT:g}).\n")


def measure_in_new_process(variant: str, size: int, steps: int) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", variant, str(size), str(steps)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def table(size: int, rounds: list[dict[str, dict[str, float]]]) -> str:
    """Markdown of all rounds and the median ratio."""
    ratios = [entry["dci"]["cpu_s"] / entry["plain"]["cpu_s"] for entry in rounds]
    lines = [f"## Latent {size} x {size}, {STEPS_AT.get(size, STEPS)} steps", "",
             "| round | plain, CPU s | DCI, CPU s | ratio | plain, MB | DCI, MB | rows |",
             "|---|---|---|---|---|---|---|"]
    for number, (entry, ratio) in enumerate(zip(rounds, ratios, strict=True), 1):
        plain, dci = entry["plain"], entry["dci"]
        lines.append(f"| {number} | {plain['cpu_s']:.2f} | {dci['cpu_s']:.2f} | {ratio:.3f} "
                     f"| {plain['peak_mb']:.0f} | {dci['peak_mb']:.0f} | {plain['rows']} → {dci['rows']} |")
    median = statistics.median(ratios)
    verdict = "accepted" if median <= LIMIT else "**not accepted**"
    return "\n".join([*lines, "", f"Median ratio **{median:.3f}**: {verdict}."])


def measure(variant: str, size: int, steps: int) -> dict[str, float]:
    """CPU seconds, peak MB and network rows of one sampling run in this process."""
    start_comfyui()
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        model, positive, negative = small_model(variant == "dci")
        before = reset_peak_memory()
        if steps > MEMORY_STEPS:
            sample(model, positive, negative, size, WARM_UP)
        rows: list[int] = []
        network = model.model.diffusion_model
        network.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
        started = time.process_time()
        latents = sample(model, positive, negative, size, steps)
        seconds = time.process_time() - started
    assert latents.isfinite().all()
    return {"cpu_s": seconds, "peak_mb": (peak_memory() - before) / 1e6, "rows": sum(rows)}


def start_comfyui() -> None:
    """Import the checkout as the package `comfyui_personalize`, and ComfyUI on the CPU."""
    comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui" / "ComfyUI")
    sys.path.insert(0, str(comfyui))
    package = types.ModuleType("comfyui_personalize")
    package.__path__ = [str(ROOT)]
    sys.modules[package.__name__] = package
    from comfy.cli_args import args

    args.cpu = True


def small_model(with_dci: bool) -> tuple[Any, list, list]:
    """MODEL of random weights, positive and negative of random texts; patched for DCI or not."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.ops
    import comfy.sd
    import torch

    from comfyui_personalize.core.dci.config import DCIConfig
    from comfyui_personalize.core.dci.dbim import BranchTokens
    from comfyui_personalize.nodes.bridge.dual_branch import patch_dual_branch
    from comfyui_personalize.nodes.bridge.dual_prompt import CONDITIONING_KEY, DualPrompt

    generator = torch.Generator().manual_seed(0)
    unet = openaimodel.UNetModel(**UNET_SHAPE, dtype=torch.float32, device="meta",
                                 operations=comfy.ops.disable_weight_init)
    weights = {name: random_weight(name, value, generator) for name, value in unet.state_dict().items()}
    model = comfy.sd.load_diffusion_model_state_dict(weights)
    assert type(model.model.model_config).__name__ == "SD15"
    concept, auxiliary, empty = (torch.randn(1, 77, 768, generator=generator) for _ in range(3))
    # 'a photo of a sks dog in times square' and 'a photo of a cat in times square'
    prompt = DualPrompt(concept, auxiliary, None, BranchTokens(77, tuple(range(1, 10)), (5, 6)),
                        BranchTokens(77, tuple(range(1, 9)), (1, 2, 3, 4, 6, 7, 8)))
    if with_dci:
        model = patch_dual_branch(model, DCIConfig(window=WINDOW))
    return model, [[concept, {CONDITIONING_KEY: prompt} if with_dci else {}]], [[empty, {}]]


def random_weight(name: str, like: Any, generator: Any) -> Any:
    """Norms 1, biases 0, all else N(0, 1 / fan-in)."""
    import torch

    if like.ndim < 2:
        return torch.full(like.shape, float(name.endswith("weight")))
    return torch.randn(like.shape, generator=generator) / math.sqrt(like[0].numel())


def sample(model: Any, positive: list, negative: list, size: int, steps: int) -> Any:
    """Latents (1, 4, size, size) of one guided run."""
    import comfy.sample
    import torch

    latent = torch.zeros(1, 4, size, size)
    noise = comfy.sample.prepare_noise(latent, 1)
    return comfy.sample.sample(model, noise, steps, CFG, "ddim", "normal", positive, negative, latent, seed=1,
                               disable_pbar=True)


def reset_peak_memory() -> float:
    """Forget the resident high-water mark where Linux can, and give the bytes held now."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return peak_memory()


def peak_memory() -> float:
    """Resident high-water mark of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


if __name__ == "__main__":
    main()
