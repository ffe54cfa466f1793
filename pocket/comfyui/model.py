"""The second pocket model in ComfyUI's own loaders: its configuration. Its weights are not published yet.

Stable Diffusion's structure at other widths, with velocity prediction and a transformer at every level; nothing is
scaled when it is loaded. Of the token table the file holds the trained rows only, the others come from a counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy import latent_formats, model_base, sd1_clip, supported_models, supported_models_base

from .. import image_text
from ..second import config
from ..second.names import name_words
from ..second.rows import expand_table
from ..second.tokens import vocabulary
from .model import PocketTokenizer


class SecondPocketLatent(latent_formats.LatentFormat):
    """Latents of unit power: 1/8 of the picture's size, no scale factor."""

    latent_channels = config.LATENT_CHANNELS
    scale_factor = 1.0


class SecondPocketTextModel(sd1_clip.SDClipModel):
    """CLIP's text transformer at the pocket width, three layers."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None):
        super().__init__(device=device, dtype=dtype, textmodel_json_config=dict(config.TEXT_CONFIG),
                         return_projected_pooled=False, model_options=model_options or {})


class SecondPocketTextEncoder(sd1_clip.SD1ClipModel):
    """What a CLIP object of the model holds, under the same names as Stable Diffusion's."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None):
        super().__init__(device=device, dtype=dtype, model_options=model_options or {},
                         clip_model=SecondPocketTextModel)

    def trained_names(self) -> frozenset[str]:
        """Rare words that the model was trained on: the individuals of its world."""
        return frozenset(name_words())

    def was_taught(self, ids: Sequence[int]) -> bool:
        """Whether all of these tokens were in its captions, or are names in them."""
        return set(ids) <= set(vocabulary().ids.tolist())

    def has_projection(self) -> bool:
        """Whether the text projection is at hand, which the checkpoint has no place for and loading puts in."""
        return image_text.text_projection(model=2) is not None


class SecondPocketModel(supported_models.SD15):
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
    latent_format = SecondPocketLatent

    def model_type(self, state_dict: dict[str, Any], prefix: str = "") -> model_base.ModelType:
        return model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        """More input channels than latent channels; stock code counts against 4 latent channels."""
        return self.unet_config["in_channels"] > config.LATENT_CHANNELS

    def process_clip_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Makes the token rows that the file leaves out, and puts the text projection in, which is in another file."""
        state = super().process_clip_state_dict(expand_table(state_dict))
        projection = image_text.text_projection(model=2)
        if state and projection is not None:
            state.setdefault("clip_l.transformer.text_projection.weight", projection)
        return state

    def clip_target(self, state_dict: dict[str, Any] | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(PocketTokenizer, SecondPocketTextEncoder)


def register_second_model() -> None:
    """Let stock loaders know the model; a second call changes nothing.

    It stands before the first pocket model, whose configuration says less and would match it too.
    """
    if not any(known.__name__ == SecondPocketModel.__name__ for known in supported_models.models):
        names = [known.__name__ for known in supported_models.models]
        place = names.index("PocketModel") if "PocketModel" in names else len(names)
        supported_models.models.insert(place, SecondPocketModel)
