"""The pocket checkpoint in ComfyUI's own loaders: its configuration, and the folder it lies in.

Stable Diffusion's structure at other widths, which no stock class matches; nothing else about it is special.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import folder_paths
from comfy import clip_vision, latent_formats, sd1_clip, supported_models, supported_models_base

from ..pocket import config, image_text

CHECKPOINTS = Path(__file__).resolve().parent.parent / "pocket" / "checkpoints"


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


def is_pocket_vision(state_dict: dict[str, Any]) -> bool:
    """Whether these are the tensors of the pocket image tower, by width, depth and patches."""
    patches = state_dict.get("vision_model.embeddings.patch_embedding.weight")
    layer = "vision_model.encoder.layers.{}.layer_norm1.weight"
    depth, width, size = (config.VISION_CONFIG[k] for k in ("num_hidden_layers", "hidden_size", "patch_size"))
    return (patches is not None and tuple(patches.shape) == (width, 3, size, size)
            and layer.format(depth - 1) in state_dict and layer.format(depth) not in state_dict)


def register_image_tower() -> None:
    """Let CLIPVisionLoader read the pocket image tower: ComfyUI keeps no list of image towers that one could join."""
    stock = clip_vision.load_clipvision_from_sd
    if getattr(stock, "knows_pocket", False):
        return

    @functools.wraps(stock)
    def load(sd: dict[str, Any], prefix: str = "", convert_keys: bool = False) -> Any:
        if not is_pocket_vision(sd):
            return stock(sd, prefix, convert_keys)
        tower = clip_vision.ClipVisionModel(dict(config.VISION_CONFIG))
        tower.load_sd({key: value for key, value in sd.items() if key.startswith("vis")})
        return tower

    load.knows_pocket = True  # type: ignore[attr-defined]
    clip_vision.load_clipvision_from_sd = load


def register_pocket() -> None:
    """Let stock loaders know the pocket models and list their files; a second call changes nothing."""
    if not any(known.__name__ == PocketModel.__name__ for known in supported_models.models):
        supported_models.models.append(PocketModel)
    folder_paths.add_model_folder_path("checkpoints", str(CHECKPOINTS))
    register_image_tower()
    folder_paths.add_model_folder_path("clip_vision", str(image_text.IMAGE_TEXT_FOLDER))
