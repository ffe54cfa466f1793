"""Sizes of the pocket model: the constants that training, export and the ComfyUI registration share.

No import here but the standard library, so that a node package can read it at no cost.
"""

from __future__ import annotations

from typing import Any, Final

SIZE: Final = 96
"""Width and height of a picture in pixels. 96 and not 128: on shared CPU cores a training step costs 1.7 times
less, for the model here and for everyone who personalizes it."""

DOWNSCALE: Final = 8
"""Pixels per latent cell."""

LATENT_CHANNELS: Final = 16
LATENT_SCALE: Final = 1.0
"""ComfyUI's `latent_format.scale_factor`: the file's own vae_scale already gives latents of about unit size."""

FILE_EPSILON: Final = 1e-5
"""Epsilon of every GroupNorm in ComfyUI's UNet (torch's default)."""
TRAINED_EPSILON: Final = 16.0
"""Epsilon of the last GroupNorm while training, where what it normalises has a variance of about 1. So large, the
norm is nearly linear: how strong the predicted noise of a channel is stays the network's to say. A normalised
output predicts unit strength always, and a deterministic sampler never removes what a start differs from that."""
OUTPUT_SCALE: Final = (FILE_EPSILON / TRAINED_EPSILON) ** 0.5
"""`scale_output` factor of the exported file, about 8e-4: well above float16's subnormal numbers."""

LOADED_SCALE: Final = 1024.0
"""Factor on the same weights when ComfyUI loads the file, so that an optimiser's steps are small beside them. A power
of two near 1 / OUTPUT_SCALE: what is loaded and saved again is the same to the bit."""

MODEL_CHANNELS: Final = 64
CHANNEL_MULT: Final = (1, 2, 3)
NUM_RES_BLOCKS: Final = 1
ATTENTION_LEVELS: Final = (False, True, True)
"""Level 0 (12 x 12 cells for a 96 px picture) has no transformer: it would cost 30 % of the speed."""
TRANSFORMER_DEPTH: Final = (0, 1, 1)
"""ComfyUI's `transformer_depth`, one entry per level and residual block."""
CONTEXT_DIM: Final = 128
NUM_HEAD_CHANNELS: Final = 32
NUM_HEADS: Final = -1
"""Not used where NUM_HEAD_CHANNELS is given (ComfyUI writes -1)."""

VOCAB_SIZE: Final = 49408
BOS: Final = 49406
EOS: Final = 49407
MAX_TOKENS: Final = 77

TEXT_CONFIG: Final[dict[str, Any]] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": CONTEXT_DIM,
    "intermediate_size": 4 * CONTEXT_DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": MAX_TOKENS,
    "vocab_size": VOCAB_SIZE,
    "projection_dim": CONTEXT_DIM,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
}
"""The text transformer, in the vocabulary of CLIPTextConfig and of ComfyUI's `textmodel_json_config`."""

VISION_CONFIG: Final[dict[str, Any]] = {
    "model_type": "clip_vision_model",
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_channels": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "image_size": SIZE,
    "patch_size": 12,
    "projection_dim": CONTEXT_DIM,
}
"""The image side of the image-text encoder, in the vocabulary of CLIPVisionConfig and of ComfyUI's
`clip_vision_config_*.json`. The joint space has the text encoder's width, as ComfyUI's square text projection asks."""

TIMESTEPS: Final = 1000
BETA_START: Final = 0.00085
BETA_END: Final = 0.012
"""SD's scaled-linear schedule with noise (eps) prediction."""
