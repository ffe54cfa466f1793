"""Text encoders that learn: CLIP, T5 and language models of Llama's build (Qwen, Gemma, Mistral), through ComfyUI's own
forward of the family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.lora
import comfy.model_management
from comfy.clip_model import CLIPLayer
from comfy.text_encoders.llama import TransformerBlock, TransformerBlockGemma2
from comfy.text_encoders.t5 import T5Block
from torch import nn

from ....core.errors import require
from ....core.learning.adapter import is_eight_bit
from ....core.training.gradient_checkpointing import checkpointed
from .adapter_keys import text_adapter_keys

LAYERS = (CLIPLayer, T5Block, TransformerBlock, TransformerBlockGemma2)
"""Layers whose gradients are known to be right."""
WHAT = "text_encoder_rate"
FIX = "Set text_encoder_rate to 0: the diffusion model alone is trained."


def check_trainable(clip: Any) -> None:
    """Raise `InputError` for text encoders that cannot learn here, before anything is loaded."""
    module = clip.cond_stage_model
    encoders = {name: part for name, part in module.named_children() if any(True for _ in part.parameters())}
    require(bool(encoders), WHAT, "a CLIP without weights of its own (the diffusion model reads the text)",
            "a text encoder", FIX)
    for name, encoder in encoders.items():
        require(bool(_layers(encoder)), WHAT, f"the text encoder {name}, whose layers have no known gradients",
                "CLIP, T5, or a language model of Llama's build (Qwen, Gemma 2 and 3, Mistral)", FIX)
        require(not any(map(is_eight_bit, encoder.parameters())), WHAT,
                f"the text encoder {name}, stored in 8 bits or less",
                "weights in fp16, bf16 or fp32, into which what is learned can be merged",
                f"Load a file of such weights. {FIX}")
    _check_keys(module)
    _check_memory(clip)


@contextmanager
def recomputed_layers(module: nn.Module) -> Iterator[None]:
    """Within the context the layers of T5 and language models keep their inputs alone for the backward pass: there are
    dozens of them, and of 256 to 512 rows each."""
    with checkpointed([layer for layer in _layers(module) if not isinstance(layer, CLIPLayer)]):
        yield


def _layers(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, LAYERS)]


def _check_keys(module: nn.Module) -> None:
    """Raise `InputError` where stock LoraLoader has no key for a layer."""
    ours, stock = text_adapter_keys(module), comfy.lora.model_lora_keys_clip(module, {})
    inside = {id(part) for layer in _layers(module) for part in layer.modules() if isinstance(part, nn.Linear)}
    unknown = [path for path, part in module.named_modules()
               if id(part) in inside and stock.get(ours[path]) != f"{path}.weight"]
    require(not unknown, WHAT, f"the layer {unknown[0] if unknown else ''}, which ComfyUI's LoraLoader has no key for",
            "layers whose file other programs read", FIX)


def _check_memory(clip: Any) -> None:
    """Raise `InputError` for a text encoder that no adapter can learn beside, for it does not fit as a whole."""
    size, device = clip.patcher.model_size(), clip.patcher.load_device
    memory = comfy.model_management.get_total_memory(device)
    require(size < memory, WHAT, f"text encoders of {size / 2**30:.1f} GiB",
            f"what fits the {memory / 2**30:.1f} GiB of {device} as a whole", FIX)
