"""A random model with Stable Diffusion's structure, 0.6 M parameters and 8x8 latents, loaded by ComfyUI's own loader.

Mechanics are real, pictures are noise: what tests of the nodes need, in well under a second.
"""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
import comfy.ops
import comfy.sd
import torch
from comfy import sd1_clip, supported_models, supported_models_base
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

WIDTH = 32
CONTEXT = 64
TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": CONTEXT, "intermediate_size": 2 * CONTEXT, "num_hidden_layers": 2, "num_attention_heads": 2,
    "hidden_act": "quick_gelu", "max_position_embeddings": 77, "eos_token_id": 49407,
}
UNET_SHAPE = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": WIDTH, "channel_mult": [1, 2],
    "num_res_blocks": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1, "context_dim": CONTEXT, "num_heads": 2, "num_head_channels": -1,
    "use_spatial_transformer": True, "legacy": False,
}


class TinyTextModel(sd1_clip.SDClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict | None = None):
        super().__init__(device=device, dtype=dtype, textmodel_json_config=dict(TEXT_CONFIG),
                         return_projected_pooled=False, model_options=model_options or {})


class TinyTextEncoder(sd1_clip.SD1ClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict | None = None):
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=TinyTextModel)


class ReadOnce:
    """CLIP's tokenizer, which nothing changes, read from its file once."""

    from_pretrained = staticmethod(functools.cache(CLIPTokenizer.from_pretrained))


class TinyVocabulary(sd1_clip.SDTokenizer):
    def __init__(self, **settings: Any):
        super().__init__(embedding_size=CONTEXT, tokenizer_class=ReadOnce, **settings)


class TinyTokenizer(sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict | None = None):
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=TinyVocabulary)


class TinyModel(supported_models.SD15):
    unet_config = {"context_dim": CONTEXT, "model_channels": WIDTH, "use_linear_in_transformer": False,
                   "adm_in_channels": None, "use_temporal_attention": False}
    unet_extra_config = {"num_heads": 2, "num_head_channels": -1}

    def clip_target(self, state_dict: dict | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(TinyTokenizer, TinyTextEncoder)


def random_weights(module: nn.Module, prefix: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights that keep activations of about unit size: N(0, 1 / fan-in), norms 1, biases 0.02."""
    weights = {}
    for name, value in module.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim < 2:
            weights[prefix + name] = 0.02 * noise + float(name.endswith("weight"))
        else:
            weights[prefix + name] = noise / math.sqrt(max(1, value[0].numel()))
    return weights


@functools.cache
def tiny_checkpoint(seed: int = 0) -> Path:
    """A checkpoint file of random weights (6 MB, most of it the token table)."""
    generator = torch.Generator().manual_seed(seed)
    unet = openaimodel.UNetModel(**UNET_SHAPE, dtype=torch.float32, device="cpu",
                                 operations=comfy.ops.disable_weight_init)
    text = TinyTextModel(dtype=torch.float32)
    weights = random_weights(unet, "model.diffusion_model.", generator)
    weights |= random_weights(text.transformer, "cond_stage_model.transformer.", generator)
    weights |= random_weights(TAESD(latent_channels=4), "first_stage_model.", generator)
    weights["first_stage_model.vae_scale"] = torch.tensor(1.0)
    weights["first_stage_model.vae_shift"] = torch.tensor(0.0)
    path = Path(tempfile.mkdtemp(prefix="personalize-tiny-")) / "tiny.safetensors"
    save_file({name: value.half().contiguous() for name, value in weights.items()}, path)
    return path


def tiny_models(seed: int = 0) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the tiny checkpoint, as CheckpointLoaderSimple gives them: new objects at every call."""
    if not any(known.__name__ == "TinyModel" for known in supported_models.models):
        supported_models.models.append(TinyModel)
    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(tiny_checkpoint(seed)))[:3]
