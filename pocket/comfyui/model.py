"""The pocket checkpoint in ComfyUI's own loaders: its configuration.

Stable Diffusion's structure at other widths, with velocity prediction and a transformer at every level; nothing is
scaled when it is loaded. Of the token table the file holds the trained rows only, the others come from a counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy import latent_formats, model_base, sd1_clip, supported_models, supported_models_base

from ...core.errors import InputError
from .. import config, image_text
from ..names import name_words
from ..rows import expand_table
from ..tokens import vocabulary


class PocketLatent(latent_formats.LatentFormat):
    """Latents of unit power: 1/8 of the picture's size, no scale factor."""

    latent_channels = config.LATENT_CHANNELS
    scale_factor = 1.0


class PocketTextModel(sd1_clip.SDClipModel):
    """CLIP's text transformer at the pocket width, three layers."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None):
        super().__init__(device=device, dtype=dtype, textmodel_json_config=dict(config.TEXT_CONFIG),
                         return_projected_pooled=False, model_options=model_options or {})


class PocketTextEncoder(sd1_clip.SD1ClipModel):
    """What a CLIP object of the model holds, under the same names as Stable Diffusion's."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None):
        super().__init__(device=device, dtype=dtype, model_options=model_options or {},
                         clip_model=PocketTextModel)

    def trained_names(self) -> frozenset[str]:
        """Rare words that the model was trained on: the individuals of its world."""
        return frozenset(name_words())

    def was_taught(self, ids: Sequence[int]) -> bool:
        """Whether all of these tokens were in its captions, or are names in them."""
        return set(ids) <= set(vocabulary().ids.tolist())

    def has_projection(self) -> bool:
        """Whether the text projection is at hand, which the checkpoint has no place for and loading puts in."""
        return image_text.text_projection() is not None


class PocketVocabulary(sd1_clip.SDTokenizer):
    """CLIP's own byte-pair encoding; textual inversion vectors have the pocket width."""

    def __init__(self, **settings: Any):
        super().__init__(embedding_size=config.CONTEXT_DIM, **settings)


class PocketTokenizer(sd1_clip.SD1Tokenizer):
    """One tokenizer, under the same name as Stable Diffusion's."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None):
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=PocketVocabulary)


class PocketModel(supported_models.SD15):
    """How ComfyUI recognises the UNet (widths, and a transformer at every level) and builds what belongs to it."""

    unet_config: dict[str, Any] = {
        "context_dim": config.CONTEXT_DIM,
        "model_channels": config.MODEL_CHANNELS,
        "transformer_depth": list(config.TRANSFORMER_DEPTH),
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }
    unet_extra_config = {"num_heads": -1, "num_head_channels": config.HEAD_CHANNELS}
    latent_format = PocketLatent

    def model_type(self, state_dict: dict[str, Any], prefix: str = "") -> model_base.ModelType:
        return model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        """More input channels than latent channels; stock code counts against 4 latent channels."""
        return self.unet_config["in_channels"] > config.LATENT_CHANNELS

    def process_clip_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Makes the token rows that the file leaves out, and puts the text projection in, which is in another file."""
        state = super().process_clip_state_dict(expand_table(state_dict))
        projection = image_text.text_projection()
        if state and projection is not None:
            state.setdefault("clip_l.transformer.text_projection.weight", projection)
        return state

    def clip_target(self, state_dict: dict[str, Any] | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(PocketTokenizer, PocketTextEncoder)


class FirstPocketModel(supported_models.SD15):
    """Recognises checkpoints of the first pocket model, which had the same widths and fewer transformers."""

    unet_config: dict[str, Any] = {
        "context_dim": config.CONTEXT_DIM,
        "model_channels": config.MODEL_CHANNELS,
        "transformer_depth": [0, 1, 1],
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }

    def get_model(self, state_dict: dict[str, Any], prefix: str = "", device: Any = None) -> Any:
        raise InputError("checkpoint", "one of the first pocket model", "one of today's, which has another world, "
                         "other latents and another text encoder", "Train your subject again on pocket.safetensors.")


def register_model() -> None:
    """Let stock loaders know the model; a second call changes nothing."""
    for mine in (PocketModel, FirstPocketModel):
        if not any(known.__name__ == mine.__name__ for known in supported_models.models):
            supported_models.models.append(mine)
