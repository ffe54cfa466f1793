"""Checkpoints of random weights that `make gpu` trains: at their true sizes, and tiny ones for a rehearsal."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory import UNETS, comfyui_shape

ROOT = Path(__file__).resolve().parents[1]


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
