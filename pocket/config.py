"""Sizes of the pocket model: the constants that world, training, export and the registration share.

No import here but the standard library.
"""

from __future__ import annotations

from typing import Any, Final

SIZE: Final = 96
"""Width and height of a picture in pixels. At 128 the same cost would buy a network of half the width."""
DOWNSCALE: Final = 8
CELLS: Final = SIZE // DOWNSCALE
"""Latent cells along a side: 12, which is also how fine the finest cross-attention maps are."""
LATENT_CHANNELS: Final = 16

MODEL_CHANNELS: Final = 64
CHANNEL_MULT: Final = (1, 2, 3)
TRANSFORMER_DEPTH: Final = (1, 1, 1)
"""A transformer at every level, the finest too: masks read from 6 x 6 cross-attention maps say nothing."""
HEAD_CHANNELS: Final = 32
CONTEXT_DIM: Final = 128

VOCAB_SIZE: Final = 49408
BOS: Final = 49406
EOS: Final = 49407
MAX_TOKENS: Final = 77
TEXT_LAYERS: Final = 3
TEXT_HEADS: Final = 4

TEXT_CONFIG: Final[dict[str, Any]] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": CONTEXT_DIM,
    "intermediate_size": 4 * CONTEXT_DIM,
    "num_hidden_layers": TEXT_LAYERS,
    "num_attention_heads": TEXT_HEADS,
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
"""SD's scaled-linear schedule; the network predicts the velocity v = sqrt(abar) eps - sqrt(1 - abar) x0, which is of
unit size at every noise level, so that nothing needs scaling when the file is loaded."""
