"""The pocket checkpoint in ComfyUI's own loaders: its configuration.

Stable Diffusion's structure at other widths, which no stock class matches; nothing else about it is special.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy import latent_formats, sd1_clip, supported_models, supported_models_base

from .. import config, image_text
from ..names import load_names

LAST_LAYERS = ("output_blocks.5.0.skip_connection.", "output_blocks.5.0.out_layers.3.")
"""What feeds the last GroupNorm: 3 levels of one residual block and one more make output blocks 0 to 5."""


class PocketLatent(latent_formats.LatentFormat):
    """Latents of the pocket autoencoder: 1/8 of the picture's size, one scale factor."""

    latent_channels = config.LATENT_CHANNELS
    scale_factor = config.LATENT_SCALE


class PocketTextModel(sd1_clip.SDClipModel):
    """CLIP's text transformer at the pocket width; the token table keeps CLIP's 49,408 rows."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None):
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=dict(config.TEXT_CONFIG),
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class PocketTextEncoder(sd1_clip.SD1ClipModel):
    """What a CLIP object of the pocket model holds, under the same names as Stable Diffusion's."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None):
        super().__init__(
            device=device, dtype=dtype, model_options=model_options or {}, clip_model=PocketTextModel
        )

    def trained_names(self) -> frozenset[str]:
        """Rare words that the model was trained on: the individuals of its world."""
        return frozenset(load_names())

    def was_taught(self, ids: Sequence[int]) -> bool:
        """Whether all of these tokens were in its captions. Its other rows are drawn like the rows of its individuals'
        names, and act as such."""
        from ..text import was_learned  # with transformers, which starting ComfyUI need not wait for

        return all(was_learned(self.clip_l.transformer.get_input_embeddings().weight, list(ids)))

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
    """How ComfyUI recognises the pocket UNet (context and channel widths) and builds what belongs to it."""

    unet_config: dict[str, Any] = {
        "context_dim": config.CONTEXT_DIM,
        "model_channels": config.MODEL_CHANNELS,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }
    unet_extra_config = {"num_heads": config.NUM_HEADS, "num_head_channels": config.NUM_HEAD_CHANNELS}
    latent_format = PocketLatent

    def inpaint_model(self) -> bool:
        """More input channels than latent channels; stock code counts against 4 latent channels."""
        return self.unet_config["in_channels"] > config.LATENT_CHANNELS

    def get_model(self, state_dict: dict[str, Any], prefix: str = "", device: Any = None) -> Any:
        """The model with a large epsilon in its last norm, about as in training; see `pocket.unet.scale_output`.

        The file holds the same function for ComfyUI's own epsilon, at weights so small that an optimiser's steps would
        wipe them out. In memory they are of the usual size.
        """
        model = super().get_model(state_dict, prefix, device)
        model.diffusion_model.out[0].eps = config.FILE_EPSILON * config.LOADED_SCALE**2
        return model

    def process_unet_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        return _scaled_output(super().process_unet_state_dict(state_dict), config.LOADED_SCALE)

    def process_unet_state_dict_for_saving(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        return super().process_unet_state_dict_for_saving(_scaled_output(state_dict, 1 / config.LOADED_SCALE))

    def process_clip_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Puts the text projection in, which Stable Diffusion's checkpoints and loader have no place for."""
        state, projection = super().process_clip_state_dict(state_dict), image_text.text_projection()
        if state and projection is not None:
            state.setdefault("clip_l.transformer.text_projection.weight", projection)
        return state

    def clip_target(self, state_dict: dict[str, Any] | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(PocketTokenizer, PocketTextEncoder)


def _scaled_output(state_dict: dict[str, Any], factor: float) -> dict[str, Any]:
    """The state dict with what feeds the last GroupNorm multiplied by a factor."""
    return {key: tensor * factor if key.startswith(LAST_LAYERS) else tensor for key, tensor in state_dict.items()}


def register_model() -> None:
    """Let stock loaders know the model; a second call changes nothing."""
    if not any(known.__name__ == PocketModel.__name__ for known in supported_models.models):
        supported_models.models.append(PocketModel)
