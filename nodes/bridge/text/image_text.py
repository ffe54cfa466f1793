"""CLIP_VISION and CLIP as one `core.image_text.ImageTextEncoder`: both towers as ComfyUI loaded them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from comfy import sd1_clip
from comfy.clip_model import CLIPLayer
from safetensors import safe_open
from torch import Tensor, nn

from ....core.errors import require
from ....core.model.image_text import (
    CONTENT_TOKENS,
    PAIR,
    TokenRow,
    TransformersImageText,
    check_projection,
    check_row,
    load_image_text,
    projection_flaw,
    unit,
)
from ....core.model_folders import path_of
from ..model.gradients import replace_inference_tensors
from ..pocket_files import FILES, check_pocket_files
from .encoder import out_of_place_layers
from .learned_vectors import CLIP_ENCODERS

POCKET = "pocket"
"""The path that means the pocket model's own CLIP."""
FIX = ("Load a text encoder file that has one (CLIP Loader), or give the path of a transformers CLIP folder; Stable "
       "Diffusion checkpoints carry none.")


class ComfyImageText:
    """CLIP with both projections, from two loaders.

    The text tower is the CLIP's own module: adapters that a trainer put inside it are in use, and learn.

    Args:
        clip_vision: what CLIPVisionLoader gives.
        clip: a CLIP whose text projection was trained together with that image tower.

    Raises:
        InputError: for a projection that is missing or untrained, and for towers of two different joint spaces.
    """

    def __init__(self, clip_vision: Any, clip: Any):
        self.clip_vision, self.clip = clip_vision, clip
        joint = check_image_side(clip_vision)
        self.key = choose_text_side(clip, joint)
        self.token_width = int(self._table.weight.shape[1])

    def with_clip(self, clip: Any) -> ComfyImageText:
        """The same with another CLIP object, such as a trainer's copy of it."""
        return ComfyImageText(self.clip_vision, clip)

    @property
    def module(self) -> Any:
        """The text tower: an SDClipModel."""
        return getattr(self.clip.cond_stage_model, CLIP_ENCODERS[self.key])

    @property
    def _table(self) -> Any:
        return self.module.transformer.get_input_embeddings()

    @property
    def text_projection(self) -> Tensor:
        weight: Tensor = self.module.transformer.text_projection.weight
        return weight

    def embed_images(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            outputs = self.clip_vision.encode_image(pixels.detach().clone().float())
            return unit(outputs["image_embeds"].clone())

    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        return self.embed_tokens([self.tokenize(prompt)[:CONTENT_TOKENS] for prompt in prompts])

    def embed_tokens(self, rows: Sequence[TokenRow]) -> Tensor:
        for row in rows:
            check_row(row, self.token_width)
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.no_grad():
                return self._embed(rows)
        replace_inference_tensors(self.module)
        with differentiable(self.module):
            return self._embed(rows)

    def _embed(self, rows: Sequence[TokenRow]) -> Tensor:
        module, special = self.module, self.module.special_tokens
        device = self.clip.patcher.load_device
        module.reset_clip_options()
        module.set_clip_options({"execution_device": device, "projected_pooled": False})
        try:
            padded = [[special["start"], *row, special["end"], *[special["pad"]] * (CONTENT_TOKENS - len(row))]
                      for row in rows]
            pooled = module.encode(padded)[1]
        finally:
            module.reset_clip_options()
        return unit(module.transformer.text_projection(pooled))

    def tokenize(self, text: str) -> list[int]:
        chunks = self.clip.tokenize(text)[self.key]
        special = set(self.module.special_tokens.values())
        ids = [entry[0] for chunk in chunks for entry in chunk]
        return [int(i) for i in ids if not torch.is_tensor(i) and i not in special]

    def token_vectors(self, text: str) -> Tensor:
        weight = self._table.weight
        ids = torch.tensor(self.tokenize(text), dtype=torch.long, device=weight.device)
        with torch.inference_mode(False), torch.no_grad():
            return weight[ids].float().clone()


def check_image_side(clip_vision: Any) -> int:
    """The width of a CLIP_VISION's joint space.

    Raises:
        InputError: for one without an image projection (SigLIP, DINO), or an untrained one.
    """
    projection = getattr(getattr(clip_vision, "model", None), "visual_projection", None)  # a lambda where there is none
    weight: Tensor | None = getattr(projection, "weight", None)
    check_projection("clip_vision", weight, "Load the image tower of a CLIP, such as CLIP-ViT-H-14.")
    assert weight is not None
    return int(weight.shape[0])


def choose_text_side(clip: Any, joint: int) -> str:
    """The key ('l', 'g', 'h') of the CLIP's text encoder whose projection is trained and leads to that joint space.

    Raises:
        InputError: when none does.
    """
    encoders = {key: getattr(clip.cond_stage_model, name) for key, name in CLIP_ENCODERS.items()
                if hasattr(clip.cond_stage_model, name)}
    weights = {key: getattr(getattr(encoder.transformer, "text_projection", None), "weight", None)
               for key, encoder in encoders.items()}
    flaws = {key: projection_flaw(weight) or loading_flaw(clip, key) for key, weight in weights.items()}
    said = "; ".join(f"clip_{key}: {flaw}" for key, flaw in flaws.items()) or "no CLIP text encoder"
    require(None in flaws.values(), "clip", said, PAIR, FIX)
    sound = {key: weights[key].shape[0] for key, flaw in flaws.items() if flaw is None}  # type: ignore[union-attr]
    fitting = [key for key, width in sound.items() if width == joint]
    require(bool(fitting), "clip", f"a joint space of {', '.join(map(str, sound.values()))} dimensions for images of "
            f"{joint}", "text and image side of one CLIP", "Load both towers from the same CLIP.")
    return fitting[0]


def loading_flaw(clip: Any, key: str) -> str | None:
    """What is wrong with a projection that looks sound: the CLIP's own file never held it, or None.

    A layer that no file filled holds what happened to be in memory, which may be another layer's weights. ComfyUI drops
    CLIP-L's projection from Stable Diffusion 1.x and XL checkpoints; SD3's have it under names of their own.
    """
    factory = getattr(clip.patcher, "cached_patcher_init", None)
    if factory is None or has_own_projection(clip):
        return None
    paths = [factory[1][0]] if isinstance(factory[1][0], str) else factory[1][0]
    if not all(str(path).endswith(".safetensors") for path in paths):
        return None
    names = [name for path in paths for name in tensor_names(path)]
    is_checkpoint = "checkpoint" in factory[0].__name__
    wanted = "text_encoders.clip_l.transformer.text_projection" if is_checkpoint and key == "l" else "text_projection"
    return None if any(wanted in name for name in names) else "a projection that its file does not hold"


def tensor_names(path: str) -> list[str]:
    """The names in a safetensors file's header."""
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def has_own_projection(clip: Any) -> bool:
    """Whether the text encoder says that its projection was put in by the loader, as the pocket model's is."""
    has_projection = getattr(clip.cond_stage_model, "has_projection", None)
    return has_projection is not None and has_projection()


def differentiable(module: nn.Module) -> AbstractContextManager[None]:
    """`out_of_place_layers`, unless a trainer is inside it already."""
    patched = any("forward" in vars(layer) for layer in module.modules() if isinstance(layer, CLIPLayer))
    return nullcontext() if patched else out_of_place_layers(module)


def find_folder(path: str) -> Path:
    """The folder that a path means: absolute, below one of ComfyUI's clip_vision folders, or the pocket's own CLIP.

    Raises:
        InputError: when there is no such folder, or the pocket's files are missing or damaged.
    """
    if path == POCKET:
        check_pocket_files("path", *(place for _, place in FILES.values() if "upscaler" not in place))
        from ....pocket.image_text import IMAGE_TEXT_FOLDER

        return IMAGE_TEXT_FOLDER
    given = path_of(path, "path")
    roots = [] if given.is_absolute() else [Path(root) for root in folder_paths.get_folder_paths("clip_vision")]
    found = next((place for place in [root / given for root in roots] or [given] if place.is_dir()), None)
    require(found is not None, "path", repr(path),
            f"an existing folder, absolute or in models/clip_vision, or {POCKET}",
            "Give the folder that holds config.json, the weights and the tokenizer files of a CLIP.")
    assert found is not None
    return found


def load_folder(path: str) -> TransformersImageText:
    """The transformers CLIP that a path means, on ComfyUI's device for text encoders.

    Raises:
        InputError: as `find_folder` and `load_image_text`.
    """
    folder = find_folder(path)
    if path == POCKET:
        from ....pocket.image_text import transformers_folder

        folder = transformers_folder(tokenizer=Path(sd1_clip.__file__).parent / "sd1_tokenizer")
    return load_image_text(folder, comfy.model_management.text_encoder_device())
