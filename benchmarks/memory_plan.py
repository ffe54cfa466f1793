"""What full-size models need while they train, by the estimate that chooses a run's plan; nothing is loaded or run.

    python benchmarks/memory_plan.py [--size 1024] [--rank 16] [--write]

The networks have their published sizes and no content (PyTorch's meta device and fake tensors), in ComfyUI's own
classes; a LoRA on attention, one row, bf16. Blocks of one shape are counted once, so that a model of 20 billion weights
takes seconds. The gradients, AdamW's moments and the activations are in the figures; text encoder and VAE are not on
the device meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from dci_sampling import start_comfyui

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "memory_plan.md"
GOALS_GB = {"SDXL": 8, "Flux.1": 10, "Z-Image": 10, "Qwen-Image": 12}
TOKENS = {"SDXL": 77, "Flux.1": 512, "Z-Image": 128, "Qwen-Image": 128}


def main() -> None:
    parser = argparse.ArgumentParser(description="What full-size models need while they train.")
    parser.add_argument("--size", type=int, default=1024, help="pixels")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    start_comfyui()
    lines = [row(name, options.size, options.rank) for name in GOALS_GB]
    report = "\n".join([header(options), *lines])
    print(report)
    if options.write:
        RESULTS.write_text(f"{report}\n", encoding="utf-8")


def header(options: argparse.Namespace) -> str:
    return f"""# What full-size models need while they train

`python benchmarks/memory_plan.py --size {options.size} --rank {options.rank} --write`: computed from the shapes of
the layers, not measured on a card. GB of one row of {options.size} pixels in bf16, LoRA of rank {options.rank} on
attention, AdamW. 8-bit: the file is stored in 8 bits, of which nothing is kept for the backward pass. Streamed: the
weights come layer by layer, the largest two at a time; what is free beside that holds more of them.

| model, text tokens | weights bf16, 8-bit | learned | activations and gradients: kept, recomputed | \
all resident, bf16 | \
gradient checkpointing, bf16 | gradient checkpointing, 8-bit | checkpointing, streamed | goal |
|---|---|---|---|---|---|---|---|---|"""


def row(name: str, size: int, rank: int) -> str:
    weights, largest, learned, activations = needs(name, size, rank)
    gb = [value / 1e9 for value in (
        weights, weights / 2, learned, activations.kept, activations.recomputed, weights + learned + activations.kept,
        weights + learned + activations.recomputed, weights / 2 + largest + learned + activations.recomputed,
        2 * largest + learned + activations.recomputed)]
    told = [f"{value:.1f}" for value in gb]
    cells = [f"{name}, {TOKENS[name]}", f"{told[0]}, {told[1]}", f"{gb[2]:.2f}", f"{told[3]}, {told[4]}", *told[5:],
             str(GOALS_GB[name])]
    return f"| {' | '.join(cells)} |"


def needs(name: str, size: int, rank: int) -> tuple[int, int, int, Any]:
    """Bytes of the weights in bf16, of the largest layer, of what learns with AdamW's moments; activations and
    gradients."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from comfyui_personalize.core.learning.adapter import Adapter, AdapterConfig
    from comfyui_personalize.core.training.memory import imagined, measure_activations
    from comfyui_personalize.nodes.bridge.model.gradients import (
        differentiable_kernels,
        own_norm_inputs,
        training_options,
    )

    model, given, latent = network(name, size)
    module = model.diffusion_model
    weights = sum(parameter.nbytes for parameter in module.parameters())
    largest = max(parameter.nbytes for parameter in module.parameters())
    with Adapter(module, AdapterConfig(rank=rank, alpha=rank), 0) as adapter:
        count = sum(parameter.numel() for parameter in adapter.parameters())
        with (FakeTensorMode(allow_non_fake_inputs=True), differentiable_kernels(), own_norm_inputs(model),
              imagined(module, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)),
              torch.autocast("cpu", torch.bfloat16)):
            activations = measure_activations(
                lambda: module(torch.empty(latent, dtype=torch.bfloat16), torch.empty(1),
                               transformer_options=training_options(),
                               **{key: make() if callable(make) else make for key, make in given.items()}), module)
    return weights, largest, 12 * count, activations


def network(name: str, size: int) -> tuple[Any, dict[str, Any], tuple[int, ...]]:
    """ComfyUI's model on the meta device, what its network reads, and the shape of its latents."""
    import torch
    from comfy import supported_models as stock

    sys.path.insert(0, str(ROOT / "benchmarks"))
    from memory import comfyui_shape

    cells, tokens = size // 8, TOKENS[name]

    def rows(width: int) -> Any:
        return lambda: torch.empty(1, tokens, width, dtype=torch.bfloat16)

    flux = {"image_model": "flux", "in_channels": 16, "out_channels": 16, "hidden_size": 3072, "num_heads": 24,
            "axes_dim": [16, 56, 56], "mlp_ratio": 4.0, "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
            "context_in_dim": 4096, "vec_in_dim": 768, "patch_size": 2, "depth": 19, "depth_single_blocks": 38,
            "guidance_embed": True}
    z_image = {"image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 3840, "cap_feat_dim": 2560,
               "n_layers": 30, "qk_norm": True, "n_heads": 30, "n_kv_heads": 30, "axes_dims": [32, 48, 48],
               "axes_lens": [1536, 512, 512], "rope_theta": 256.0, "ffn_dim_multiplier": 8.0 / 3.0,
               "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32}
    qwen = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}
    classes: dict[str, tuple[Any, dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
        "SDXL": (stock.SDXL, comfyui_shape("sdxl"),
                 {"context": rows(2048), "y": lambda: torch.empty(1, 2816, dtype=torch.bfloat16)},
                 (1, 4, cells, cells)),
        "Flux.1": (stock.Flux, flux, {"context": rows(4096), "guidance": lambda: torch.ones(1),
                                      "y": lambda: torch.empty(1, 768, dtype=torch.bfloat16)}, (1, 16, cells, cells)),
        "Z-Image": (stock.ZImage, z_image, {"context": rows(2560), "num_tokens": tokens}, (1, 16, cells, cells)),
        "Qwen-Image": (stock.QwenImage, qwen, {"context": rows(3584)}, (1, 16, 1, cells, cells)),
    }
    config, settings, given, latent = classes[name]
    made = config(settings)
    made.set_inference_dtype(torch.bfloat16, None)
    with torch.inference_mode(False):
        model = made.get_model({}, "", device=torch.device("meta"))
    model.diffusion_model.to("meta").requires_grad_(False)
    return model, given, latent


if __name__ == "__main__":
    main()
