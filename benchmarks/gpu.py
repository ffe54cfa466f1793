"""What training and DCI cost on an NVIDIA card, through the real nodes: `make gpu`.

    python benchmarks/gpu.py [--models sd15 sdxl] [--steps 12] [--wheels FOLDER] [--out FOLDER]
    python benchmarks/gpu.py --rehearse        the same on the CPU with tiny networks: does the script run?

Stable Diffusion 1.5 at 512 and SDXL at 1024 pixels, random weights in fp16 from a file that ComfyUI's own loader reads.
Against the smallest honest loop: diffusers' UNet in bf16, peft's LoRA of rank 16 on attention in fp32, autocast to
bf16, AdamW, one row, no gradient checkpointing.

- milliseconds a step and peak memory, as ratios; two runs in one process, after which as much is held as before;
- a cancel: what is kept, and that the next run goes on from it; the MODEL's weights bit for bit afterwards;
- guided sampling with DCI and without it, at the node's defaults.

The result is written as Markdown and JSON. Needs torch, this checkout, ComfyUI (COMFYUI_DIR, or the one that setup
fetched) and the packages of both, which may also come as a folder of wheels: where torch and transformers are there,
diffusers, peft, comfy-kitchen, comfy-aimdo, torchsde, trampoline, av, blake3, SQLAlchemy, alembic, Mako, simpleeval,
pydantic and what it needs. Without a card it says so and ends well. --dynamic-vram switches on what ComfyUI's main.py
switches on for NVIDIA cards; without it models are loaded whole.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from memory import UNETS, comfyui_shape

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WARM_UP = 3
DCI_STEPS, DCI_ROUNDS = 20, 2
PROMPT = "a photo of a sks dog in times square"

log = logging.getLogger("gpu")


@dataclass(kw_only=True)
class Figures:
    """What was measured of one model; memory in GB, time in ms.

    Attributes:
        bare_ms, ours_ms: of a step, the median after a warm-up.
        bare_gb, ours_gb: the highest that a run holds on the card, less what text encoder and VAE hold there.
        held_gb: what the process holds on the card after the first and after the second run.
        cancelled_at, resumed_from: steps of the cancelled run, and where the next one went on.
        is_restored: whether every weight of MODEL is bit for bit what it was before.
        dci_ms, plain_ms: of a guided sampling run of 20 steps.
    """

    model: str
    size: int
    bare_ms: float = math.nan
    ours_ms: float = math.nan
    bare_gb: float = math.nan
    ours_gb: float = math.nan
    held_gb: list[float] = field(default_factory=list)
    cancelled_at: int = 0
    resumed_from: int = 0
    is_restored: bool = False
    dci_ms: float = math.nan
    plain_ms: float = math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description="What training and DCI cost on an NVIDIA card.")
    parser.add_argument("--models", nargs="+", default=["sd15", "sdxl"], choices=["sd15", "sdxl"])
    parser.add_argument("--steps", type=int, default=12, help=f"of a run, of which the first {WARM_UP} are not counted")
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
    write(figures, options.out, options)


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


# Models


@dataclass(frozen=True, kw_only=True)
class Model:
    """Where a checkpoint of random weights comes from, and the bare loop's network of the same shape."""

    size: int
    load: Callable[[Path], tuple[Any, Any, Any]]
    unet: dict[str, Any]


def full_size(name: str) -> Callable[[Path], tuple[Any, Any, Any]]:
    """MODEL, CLIP and VAE (TAESD's structure) of a checkpoint at the family's true sizes, by ComfyUI's loader."""
    def load(folder: Path) -> tuple[Any, Any, Any]:
        import comfy.sd
        import torch
        from comfy import supported_models
        from comfy.taesd.taesd import TAESD
        from safetensors.torch import save_file

        config = {"sd15": supported_models.SD15, "sdxl": supported_models.SDXL}[name](comfyui_shape(name))
        network = config.get_model({}, device="meta").diffusion_model
        text = config.clip_target({}).clip(device="meta", dtype=torch.float16)
        weights = {f"model.diffusion_model.{key}": value for key, value in random_weights(network).items()}
        weights |= config.process_clip_state_dict_for_saving(random_weights(text))
        weights |= {f"first_stage_model.{key}": value for key, value in random_weights(TAESD()).items()}
        weights |= {"first_stage_model.vae_scale": torch.tensor(1.0), "first_stage_model.vae_shift": torch.tensor(0.0)}
        path = folder / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
        del weights
        with torch.inference_mode():  # as ComfyUI runs its loaders
            return comfy.sd.load_checkpoint_guess_config(str(path))[:3]

    return load


def random_weights(module: Any) -> dict[str, Any]:
    """Norms 1, biases 0, all else N(0, 1 / fan-in), in fp16."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def draw(name: str, like: Any) -> Any:
        if like.ndim < 2:
            return torch.full(like.shape, float(name.endswith("weight")), dtype=torch.float16)
        return (torch.randn(like.shape, device=device) / math.sqrt(like[0].numel())).half().cpu()

    torch.manual_seed(0)
    return {name: draw(name, value) for name, value in module.state_dict().items()}


def tiny(name: str) -> Callable[[Path], tuple[Any, Any, Any]]:
    """The tests' small network of the family."""
    def load(_: Path) -> tuple[Any, Any, Any]:
        sys.path.append(str(ROOT / "tests" / "nodes"))
        from families import family_models

        return family_models(name)

    return load


_SMALL = {"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 64, "attention_head_dim": 2,
          "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
          "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
FULL = {name: Model(size=size, load=full_size(name), unet=UNETS[name])
        for name, size in (("sd15", 512), ("sdxl", 1024))}
TINY = {name: Model(size=64, load=tiny(name), unet=_SMALL) for name in ("sd15", "sdxl")}


# Measuring


def measure(name: str, model: Model, steps: int, folder: Path) -> Figures:
    """All figures of one model; everything is gone from the card afterwards."""
    figures = Figures(model=name, size=model.size)
    log.info("%s: bare loop", name)
    figures.bare_ms, figures.bare_gb = measure_bare(model, steps)
    log.info("%s: writing and loading a checkpoint", name)
    models = model.load(folder)
    before = weights_of(models[0])
    for number in range(2):
        log.info("%s: the trainer, run %d", name, number + 1)
        figures.ours_ms, figures.ours_gb = measure_node(models, model.size, steps, seed=number)
        figures.held_gb.append(held())
    log.info("%s: bare loop again, cancel", name)
    bare_ms, _ = measure_bare(model, steps)
    figures.bare_ms = statistics.mean([figures.bare_ms, bare_ms])
    figures.cancelled_at, figures.resumed_from = cancel(models, model.size, steps)
    figures.is_restored = before == weights_of(models[0])
    log.info("%s: DCI and plain sampling", name)
    figures.plain_ms, figures.dci_ms = measure_dci(models, model.size)
    del models
    release()
    return figures


def measure_bare(model: Model, steps: int) -> tuple[float, float]:
    """Milliseconds a step and the highest GB of the bare loop."""
    import torch
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model

    device = card()
    with torch.device(device):
        unet = UNet2DConditionModel(**model.unet).to(torch.bfloat16).requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=16, lora_alpha=16, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), unet)
    learned = [value for value in unet.parameters() if value.requires_grad]
    for value in learned:
        value.data = value.data.float()
    optimizer = torch.optim.AdamW(learned, lr=1e-4)
    cells, width = model.size // 8, model.unet["cross_attention_dim"]
    latents, context = torch.randn(1, 4, cells, cells, device=device), torch.randn(1, 77, width, device=device)
    added = {"text_embeds": torch.randn(1, 1280, device=device),
             "time_ids": torch.tensor([[model.size, model.size, 0, 0, model.size, model.size]], device=device)}
    with clock() as times:
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16):
                prediction = unet(torch.randn_like(latents), torch.tensor([500], device=device), context,
                                  added_cond_kwargs=added).sample
            (prediction.float() - latents).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    result = milliseconds(times), highest()
    del unet, learned, optimizer, prediction
    release()
    return result


def measure_node(models: tuple[Any, Any, Any], size: int, steps: int, seed: int) -> tuple[float, float]:
    """Milliseconds a step and the highest GB of a run of the trainer's node."""
    _, clip, vae = models
    with clock() as times:
        train(models, size, steps, seed, f"run{seed}")
    others = sum(part.patcher.loaded_size() for part in (clip, vae)) / 2 ** 30
    return milliseconds(times), highest() - (others if card() == "cuda" else 0)


def train(models: tuple[Any, Any, Any], size: int, steps: int, seed: int, name: str) -> Any:
    """The trainer node's report on two photos of noise, at its defaults: gradient checkpointing by the free memory."""
    import torch

    from comfyui_personalize.core.subject.subject import Photo, Subject
    from comfyui_personalize.nodes.personalize_trainer import PersonalizeTrainer

    photos = tuple(Photo(pixels=torch.rand(size, size, 3, generator=torch.Generator().manual_seed(number)))
                   for number in range(2))
    subject = Subject(identifier="sks", class_noun="dog", photos=photos)
    with torch.inference_mode():  # as ComfyUI runs nodes
        return PersonalizeTrainer.PREPARE_CLASS_CLONE(None).execute(
            model=models[0], clip=models[1], vae=models[2], subject=(subject,), steps=steps, learning_rate=1e-4,
            batch=1, resolution=size, seed=seed, run_name=name).result[6]


def cancel(models: tuple[Any, Any, Any], size: int, steps: int) -> tuple[int, int]:
    """The step at which a run was cancelled, and the one from which the same graph went on."""
    import comfy.model_management
    from torch.optim.optimizer import register_optimizer_step_post_hook

    done = []

    def stop(*_: Any) -> None:
        done.append(0)
        if len(done) == steps // 2:
            comfy.model_management.interrupt_current_processing()

    handle = register_optimizer_step_post_hook(stop)
    try:
        train(models, size, steps, 7, "cancelled")
        raise RuntimeError("the run was not cancelled")
    except comfy.model_management.InterruptProcessingException:
        pass
    finally:
        handle.remove()
    report = train(models, size, steps, 7, "cancelled")
    resumed = re.search(r"resumed from step (\d+)", report)
    return len(done), int(resumed[1]) if resumed else 0


def measure_dci(models: tuple[Any, Any, Any], size: int) -> tuple[float, float]:
    """Milliseconds of a guided sampling run without and with DCI, alternating; the median of each."""
    import comfy.sample
    import torch

    from comfyui_personalize.nodes.bridge.sampling.sampling import conditioning, empty_latent
    from comfyui_personalize.nodes.dci_conditioning import DCIConditioning

    found: dict[str, list[float]] = {"plain": [], "dci": []}
    with torch.inference_mode():
        model, clip, vae = models
        node = DCIConditioning.PREPARE_CLASS_CLONE(None)
        patched, dual = node.execute(model, clip, PROMPT, "sks", "dog", "cat", 1.0, 0.3, True).result
        graphs = {"plain": (model, conditioning(clip, PROMPT)), "dci": (patched, dual)}
        negative, latent = conditioning(clip, ""), empty_latent(model, vae, size)
        noise = comfy.sample.prepare_noise(latent, 1)
        for number in range(1 + DCI_ROUNDS):  # the first to warm up
            for name in list(graphs) if number % 2 else list(graphs)[::-1]:
                graph, positive = graphs[name]
                with clock() as times:
                    times.append(now())
                    comfy.sample.sample(graph, noise, DCI_STEPS, 6.0, "ddim", "normal", positive, negative, latent,
                                        seed=1, disable_pbar=True)
                    times.append(now())
                if number:
                    found[name].append(1000 * (times[-1] - times[0]))
    return statistics.median(found["plain"]), statistics.median(found["dci"])


def weights_of(model: Any) -> dict[str, str]:
    """A digest of every weight of MODEL."""
    from comfyui_personalize.nodes.bridge.model.hashes import tensor_digest

    return {name: tensor_digest(patches[0][0]).hex() for name, patches in model.get_key_patches().items()}


def card() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def now() -> float:
    """Seconds, once the card has done what it was given."""
    import torch

    if card() == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def clock() -> Iterator[list[float]]:
    """The ends of all optimiser steps within the context; the card's high-water mark starts anew."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    release()
    if card() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ends: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: ends.append(now()))
    try:
        yield ends
    finally:
        handle.remove()


def milliseconds(ends: list[float]) -> float:
    return 1000 * statistics.median(end - start for start, end in list(zip(ends, ends[1:], strict=False))[WARM_UP - 1:])


def release() -> None:
    """Give back what nothing holds any more."""
    import torch

    gc.collect()
    if card() == "cuda":
        torch.cuda.empty_cache()


def held() -> float:
    """GB on the card that something holds."""
    import torch

    release()
    return torch.cuda.memory_allocated() / 2 ** 30 if card() == "cuda" else 0.0


def highest() -> float:
    """GB on the card at the highest since the clock was started."""
    import torch

    return torch.cuda.max_memory_allocated() / 2 ** 30 if card() == "cuda" else 0.0


# The report


def write(figures: list[Figures], folder: Path, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = report(figures, options)
    print(text)
    name = "gpu_rehearsal" if options.rehearse else "gpu"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    found = {"machine": machine(), "commit": commit(), "models": [asdict(one) for one in figures]}
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


def machine() -> str:
    import torch

    name = torch.cuda.get_device_name() if card() == "cuda" else "a CPU"
    return f"{name}, torch {torch.__version__}"


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
