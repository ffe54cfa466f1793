"""What DCI costs: a guided ComfyUI sampling run with two branches against the same run without, as a ratio.

    python benchmarks/dci_sampling.py [--sizes 16 32] [--rounds 3] [--write]
    python benchmarks/dci_sampling.py --memory 64 [--write]

The network is a UNet that ComfyUI detects as SD 1.5, channels (320, 640), one block per level, random
weights: time does not depend on them. Process-CPU seconds of the sampling alone with one thread, after a short warm-up;
plain and DCI alternate in one process, so that what else the machine does meets both. At large latents only the first
step is measured, which is in the window; the others cost the same with and without DCI. Peak memory is measured apart,
each run in its own process: the resident high-water mark while it samples, above what it held with the loaded model.
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
MEMORY_LIMIT = 1.5
STEPS, CFG, WINDOW, LIMIT = 20, 6.0, 0.3, 1.17
STEPS_AT = {64: 1}
"""Latent sizes of which only a step in the window is measured."""
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
    parser.add_argument("--worker", nargs=4, metavar=("WHAT", "SIZE", "STEPS", "ROUNDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        what, (size, steps, rounds) = options.worker[0], map(int, options.worker[1:])
        print(json.dumps(times(size, steps, rounds) if what == "time" else peak_of(what, size, steps)))
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
thread, variants alternating in one process. CPU time, on a machine that was shared: trust one ratio to about 0.05. Rows
are counted at the network. Accepted: a median ratio of CPU time up to {LIMIT:.2f}. Rows alone are 46 / 40 = 1.15. A
step in the window is one network call of 3 rows, where plain sampling makes one of 2 (with a ControlNet, or where
memory is short: two calls).
"""


def compare(size: int, rounds: int) -> list[dict[str, dict[str, float]]]:
    """CPU seconds and network rows of every variant per round, measured in one new process."""
    return in_new_process("time", size, STEPS_AT.get(size, STEPS), rounds)


def memory(size: int) -> str:
    """Markdown of the peak memory of a run of a few steps, one of them in the window."""
    plain, dci = (in_new_process(variant, size, 1, 1) for variant in VARIANTS)
    verdict = "accepted" if dci <= MEMORY_LIMIT * plain else "**not accepted**"
    return f"""# Memory that DCI needs

`python benchmarks/dci_sampling.py --memory {size} --write`: the network and settings of dci_sampling.md, a step in the
window at latent {size} x {size}, fp32 on a CPU. Sampling adds to the loaded model {plain:.0f} MB plainly (2 rows),
{dci:.0f} MB with DCI (3 rows in one network call): ratio **{dci / plain:.2f}**, {verdict} (limit {MEMORY_LIMIT:g}).
ComfyUI makes calls of fewer rows where memory is short.
"""


def in_new_process(what: str, size: int, steps: int, rounds: int) -> Any:
    """What a worker finds: the time of all variants, or the peak memory of one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", what, *map(str, (size, steps, rounds))]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def table(size: int, rounds: list[dict[str, dict[str, float]]]) -> str:
    """Markdown of all rounds and the median ratio."""
    steps = STEPS_AT.get(size, STEPS)
    ratios = [entry["dci"]["cpu_s"] / entry["plain"]["cpu_s"] for entry in rounds]
    lines = [f"## Latent {size} x {size}, {steps} step{'s' * (steps > 1)}", "",
             "| round | plain, CPU s | DCI, CPU s | ratio | rows |", "|---|---|---|---|---|"]
    for number, (entry, ratio) in enumerate(zip(rounds, ratios, strict=True), 1):
        plain, dci = entry["plain"], entry["dci"]
        lines.append(f"| {number} | {plain['cpu_s']:.2f} | {dci['cpu_s']:.2f} | {ratio:.3f} "
                     f"| {plain['rows']} → {dci['rows']} |")
    median, note = statistics.median(ratios), ""
    if steps == 1:
        note = f" of a step in the window {median:.3f}; of {STEPS} steps, {WINDOW:g} of them in it,"
        median = 1 + WINDOW * (median - 1)
    verdict = "accepted" if median <= LIMIT else "**not accepted**"
    return "\n".join([*lines, "", f"Median ratio{note} **{median:.3f}**: {verdict}."])


def times(size: int, steps: int, rounds: int) -> list[dict[str, dict[str, float]]]:
    """CPU seconds and network rows of both variants in this process, the first one first in every other round."""
    start_comfyui()
    import torch

    torch.set_num_threads(1)
    found = []
    with torch.inference_mode():
        graphs = {variant: small_model(variant == "dci") for variant in VARIANTS}
        for graph in graphs.values():
            sample(*graph, size, min(2, steps))
        for number in range(rounds):
            order = VARIANTS if number % 2 == 0 else VARIANTS[::-1]
            found.append({variant: timed(graphs[variant], size, steps) for variant in order})
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def timed(graph: tuple[Any, list, list], size: int, steps: int) -> dict[str, float]:
    """CPU seconds and network rows of one sampling run."""
    rows: list[int] = []
    network = graph[0].model.diffusion_model
    handle = network.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    started = time.process_time()
    latents = sample(*graph, size, steps)
    seconds = time.process_time() - started
    handle.remove()
    assert latents.isfinite().all()
    return {"cpu_s": seconds, "rows": sum(rows)}


def peak_of(variant: str, size: int, steps: int) -> float:
    """MB that sampling adds to the loaded model in this process."""
    start_comfyui()
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        graph = small_model(variant == "dci")
        before = reset_peak_memory()
        sample(*graph, size, steps)
    return (peak_memory() - before) / 1e6


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
    from comfyui_personalize.nodes.bridge.dci.dual_branch import patch_dual_branch
    from comfyui_personalize.nodes.bridge.dci.dual_prompt import CONDITIONING_KEY, DualPrompt

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
