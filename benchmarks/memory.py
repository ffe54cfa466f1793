"""What training adds to the memory of a loaded full-size model: our trainer in ComfyUI / the bare loop.

    python benchmarks/memory.py [--models sd15 sdxl] [--size 256] [--rounds 2] [--runs 2] [--write]

Stable Diffusion 1.5 (860 M weights, stored and computed in fp32) and SDXL (2.6 B, stored in bf16 and computed under
autocast to bf16, as diffusers' own training scripts have it) at random weights, drawn in place; the LoRA is fp32. Not
fp16: a CPU's group norm takes bf16 pictures with bf16 or fp32 weights only, so the bare loop cannot run with it.
LoRA of rank 16 on attention, one row. Our trainer has its defaults: gradient checkpointing *auto*, which is told once
of memory without end and once of none, so that it chooses "off" and "on"; the bare loop, diffusers' UNet with its own
checkpointing, does the same without choosing. Resident high-water mark of each of several runs in one process, always
above what the process held with the loaded model before the first: what a run leaves behind counts in the next one.
The two sides alternate, each in a process of its own. Attention is PyTorch's SDPA on both sides.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training_step import processor

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "memory.md"
LIMIT = 1.15
BARE, OURS = "bare loop", "our trainer in ComfyUI"
FREE_BYTES = {"off": 10 ** 18, "on": 0}
"""Free memory that *auto* is told, by the checkpointing that it then chooses."""
NEEDED_GB = {"sd15": 14, "sdxl": 18}
"""Free memory without which a model is not tried."""

UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8},
    "sdxl": {"block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20),
             "use_linear_projection": True, "transformer_layers_per_block": (1, 2, 10),
             "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
             "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
             "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
             "projection_class_embeddings_input_dim": 2816},
}
COMFYUI: dict[str, dict[str, Any]] = {
    "sd15": {"model_channels": 320, "channel_mult": [1, 2, 4, 4], "num_res_blocks": [2, 2, 2, 2],
             "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1, "context_dim": 768,
             "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "use_linear_in_transformer": False},
    "sdxl": {"model_channels": 320, "channel_mult": [1, 2, 4], "num_res_blocks": [2, 2, 2],
             "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10, "context_dim": 2048,
             "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "use_linear_in_transformer": True,
             "num_classes": "sequential", "adm_in_channels": 2816},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What training adds to a loaded model, as a ratio.")
    parser.add_argument("--models", nargs="+", default=["sd15"], choices=list(UNETS))
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, default=2, help="one after the other in each process")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--worker", nargs=3, metavar=("MODEL", "COMPETITOR", "CHECKPOINTING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        model, competitor, checkpointing = options.worker
        print(json.dumps(measure(model, competitor, checkpointing, options)))
        return
    tables = [table(model, options) for model in options.models]
    report = "\n\n".join([header(options), *tables])
    print(report)
    if options.write:
        RESULTS.write_text(f"{report}\n", encoding="utf-8")


def header(options: argparse.Namespace) -> str:
    command = f"python benchmarks/memory.py --models {' '.join(options.models)} --size {options.size} " \
              f"--rounds {options.rounds} --runs {options.runs} --steps {options.steps} --write"
    return f"""# What training adds to a loaded model

`{command}` on
{processor()}, one thread. Full-size networks at random weights, stored in fp32 (SD 1.5) or bf16 (SDXL, computed under
autocast), LoRA of rank 16 on attention, one row of {options.size} pixels, SDPA. Our trainer's gradient checkpointing is
*auto*, its default, which is told of memory without end ("off") or of none ("on"); the bare loop does the same.
Resident high-water mark of each of {options.runs} runs in one process, above the model as it was loaded, in MB by
round; the two sides alternate, each in a process of its own."""


def table(model: str, options: argparse.Namespace) -> str:
    free = available_gb()
    if free < NEEDED_GB[model]:
        return f"## {model}\n\nNot measured: {free:.0f} GB of memory were free, {NEEDED_GB[model]} are needed."
    lines = [f"## {model}", "", "| checkpointing | run | bare loop | our trainer in ComfyUI | ÷ bare loop |",
             "|---|---|---|---|---|"]
    worst = 0.0
    for checkpointing in FREE_BYTES:
        found = rounds_of(model, checkpointing, options)
        for run in range(options.runs):
            added = {name: [entry["added"][run] for entry in entries] for name, entries in found.items()}
            ratio = statistics.median(ours / bare for ours, bare in zip(added[OURS], added[BARE], strict=True))
            worst = max(worst, ratio)
            cells = (" ".join(f"{value:.0f}" for value in added[name]) for name in (BARE, OURS))
            lines.append(f"| {checkpointing} | {run + 1} | {' | '.join(cells)} | {ratio:.3f} |")
    word = "accepted" if worst <= LIMIT else "**not accepted**"
    return "\n".join([*lines, "", f"- {OURS} ÷ {BARE}: at most {worst:.3f}, limit {LIMIT:.2f}: {word}."])


def rounds_of(model: str, checkpointing: str, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """What each side measured, by round."""
    found: dict[str, list[dict[str, Any]]] = {BARE: [], OURS: []}
    for number in range(options.rounds):
        for name in (BARE, OURS) if number % 2 == 0 else (OURS, BARE):
            found[name].append(measure_in_new_process(model, name, checkpointing, options))
    return found


def available_gb() -> float:
    """Memory that new processes can have."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 2 ** 20


def measure_in_new_process(model: str, name: str, checkpointing: str, options: argparse.Namespace) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--size", str(options.size), "--steps", str(options.steps),
               "--runs", str(options.runs), "--worker", model, name, checkpointing]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def measure(model: str, name: str, checkpointing: str, options: argparse.Namespace) -> dict[str, Any]:
    """MB of the loaded model's process, and what each run holds above it at its highest."""
    from dci_sampling import peak_memory, reset_peak_memory, start_comfyui

    start_comfyui()
    import torch

    torch.set_num_threads(1)
    train = {BARE: bare, OURS: ours}[name](model, checkpointing, options.size, options.steps)
    gc.collect()
    loaded, added = reset_peak_memory(), []
    for _ in range(options.runs):
        reset_peak_memory()
        train()
        added.append((peak_memory() - loaded) / 1e6)
        gc.collect()
    return {"loaded": loaded / 1e6, "added": added}


def draw(network: Any) -> None:
    """Small random weights, drawn in place."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.02, generator=generator)


def bare(model: str, checkpointing: str, size: int, steps: int) -> Callable[[], None]:
    import torch
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model

    torch.set_default_dtype(stored(model))
    unet = UNet2DConditionModel(**UNETS[model])
    torch.set_default_dtype(torch.float32)
    draw(unet)
    width = UNETS[model]["cross_attention_dim"]
    if checkpointing == "on":
        unet.enable_gradient_checkpointing()
    unet.train()

    def train() -> None:
        unet.requires_grad_(False)
        lora = LoraConfig(r=16, lora_alpha=16, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
        inject_adapter_in_model(lora, unet)
        learned = [value for value in unet.parameters() if value.requires_grad]
        for value in learned:
            value.data = value.data.float()
        optimizer = torch.optim.AdamW(learned, lr=1e-4)
        added = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.tensor([[size, size, 0, 0, size, size]])}
        for _ in range(steps):
            latents, context = torch.randn(1, 4, size // 8, size // 8), torch.randn(1, 77, width)
            with torch.autocast("cpu", torch.bfloat16, enabled=stored(model) != torch.float32):
                prediction = unet(latents, torch.tensor([500]), context, added_cond_kwargs=added).sample
            (prediction.float() - latents).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        remove_adapter(unet)

    return train


def remove_adapter(network: Any) -> None:
    """Put peft's layers' own base layers back, as they were before the adapter."""
    from peft.tuners.lora import LoraLayer

    for path, layer in [(path, layer) for path, layer in network.named_modules() if isinstance(layer, LoraLayer)]:
        network.set_submodule(path, layer.get_base_layer())
    del network.peft_config


def ours(model: str, checkpointing: str, size: int, steps: int) -> Callable[[], None]:
    import torch
    from comfy import model_patcher, supported_models

    from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
    from comfyui_personalize.nodes.bridge.model.gradients import casting_layers, static_patcher, trainable

    with torch.inference_mode():  # as ComfyUI's loaders run
        config = {"sd15": supported_models.SD15, "sdxl": supported_models.SDXL}[model](comfyui_shape(model))
        config.set_inference_dtype(stored(model), None)
        made = config.get_model({})
        draw(made.diffusion_model)
        patcher = static_patcher(model_patcher.ModelPatcher(made, torch.device("cpu"), torch.device("cpu")))

    def train() -> None:
        with trainable(patcher), casting_layers(made):
            run_trainer(ComfyDenoiser(patcher, size), COMFYUI[model]["context_dim"], size, steps,
                        FREE_BYTES[checkpointing], bf16=stored(model) != torch.float32)

    return train


def comfyui_shape(model: str) -> dict[str, Any]:
    return {"image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True, "legacy": False,
            "use_temporal_attention": False, "adm_in_channels": None, **COMFYUI[model]}


def stored(model: str) -> Any:
    """The type of the weights in memory."""
    import torch

    return {"sd15": torch.float32, "sdxl": torch.bfloat16}[model]


def run_trainer(denoiser: Any, width: int, size: int, steps: int, free_bytes: int, bf16: bool) -> None:
    """Our trainer on a photo of noise."""
    from comfyui_personalize.benchmarks.noise_trainer import NoiseTexts, noise_trainer
    from comfyui_personalize.core.learning.adapter import AdapterConfig
    from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions

    config = TrainingConfig(
        steps=steps, resolution=size,
        options=TrainingOptions(adapter=AdapterConfig(rank=16, alpha=16.0), precision="bf16" if bf16 else "fp32"))
    with noise_trainer(denoiser, NoiseTexts(width, pooled=1280), config, photos=1, latent_size=size // 8,
                       free_bytes=free_bytes) as trainer:
        for _ in trainer.steps():
            pass


if __name__ == "__main__":
    main()
