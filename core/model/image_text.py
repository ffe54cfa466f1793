"""How alike are a picture and a text? Unit vectors of both in one space (CLIP, Radford et al. 2021, arXiv:2103.00020).

Prototypical embedding, class-characterizing regularisation, the CLIP figures and the noun suggestion ask for exactly
this: an encoder with *both* projections. A Stable Diffusion checkpoint has no text projection, so it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import require
from ..model_folders import path_of, read_config, read_object, reading

TokenRow = Sequence["int | Tensor"]
"""The content tokens of one text, without start and end: ids, and vectors (D,) that stand in the place of ids."""
CONTENT_TOKENS = 75
"""What fits between CLIP's start and end tokens."""
SMALLEST_RANK_SHARE = 0.25
"""A trained projection uses its directions; a file that was never filled has a handful at most."""
NEGLIGIBLE = 1e-4
"""Singular values below this share of the largest do not count."""
PAIR = "a CLIP with both projections"


class ImageTextEncoder(Protocol):
    """A CLIP with both projections.

    Attributes:
        token_width: D, the width of a token vector.
    """

    token_width: int

    @property
    def text_projection(self) -> Tensor:
        """(P, D), from the pooled text output to the joint space."""
        ...

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, 3) in 0..1 -> (N, P) unit vectors, without a graph."""
        ...

    def embed_tokens(self, rows: Sequence[TokenRow]) -> Tensor:
        """One unit vector per text, (N, P); where gradients are enabled with a graph to the vectors among the tokens,
        and to adapters inside the text encoder."""
        ...

    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """`embed_tokens` of the prompts' own tokens, the first 75 of each."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, without start, end and padding."""
        ...

    def token_vectors(self, text: str) -> Tensor:
        """The rows (n, D) of the token table that a text's tokens have, in float32 and without a graph."""
        ...


def unit(vectors: Tensor) -> Tensor:
    """v / |v| over the last dimension, in float32."""
    return functional.normalize(vectors.float(), dim=-1)


def check_row(row: TokenRow, width: int) -> None:
    """Raise `InputError` for too many tokens, or for vectors that are not (D,)."""
    require(len(row) <= CONTENT_TOKENS, "prompt", f"{len(row)} tokens", f"at most {CONTENT_TOKENS} tokens",
            "Shorten it, or learn fewer token vectors.")
    for token in row:
        if isinstance(token, Tensor):
            require(token.shape == (width,), "token vector", f"shape {tuple(token.shape)}", f"shape ({width},)",
                    "Use vectors that were made for this text encoder.")


def check_projection(name: str, weight: Tensor | None, fix: str) -> None:
    """Refuse a projection that was never trained. Its width says nothing and is not looked at.

    Raises:
        InputError: for one that is missing, not finite, zero, a multiple of the identity, or of (nearly) no rank.
    """
    flaw = projection_flaw(weight)
    require(flaw is None, name, flaw, PAIR, fix)


def projection_flaw(weight: Tensor | None) -> str | None:
    """What is wrong with a projection (P, D), or None."""
    if weight is None:
        return "no projection"
    matrix = weight.detach().float().cpu()
    if matrix.ndim != 2 or not bool(matrix.isfinite().all()):
        return "a projection that is no finite matrix"
    if float(matrix.abs().max()) == 0:
        return "a projection of zeros (the file has none)"
    if _is_scaled_identity(matrix):
        return "an identity in place of a projection (the file has none)"
    values = torch.linalg.svdvals(matrix)
    rank = int((values > NEGLIGIBLE * values[0]).sum())
    if rank < SMALLEST_RANK_SHARE * min(matrix.shape):
        return f"a projection of rank {rank} only (it was never trained)"
    return None


def _is_scaled_identity(matrix: Tensor) -> bool:
    if matrix.shape[0] != matrix.shape[1]:
        return False
    scale = matrix.diagonal().mean()
    return bool((matrix - scale * torch.eye(len(matrix))).abs().max() <= 1e-6 * scale.abs())


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How an image encoder wants its pixels: shorter side resized, centre cropped, normalised.

    Attributes:
        size: width and height in pixels.
        resize: length of the shorter side before the crop, in pixels.
    """

    size: int
    resize: int
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(N, H, W, 3) in 0..1 -> (N, 3, size, size)."""
        image = pixels[..., :3].detach().float().movedim(-1, 1)
        height, width = image.shape[-2:]
        if (height, width) != (self.size, self.size):
            scale = self.resize / min(height, width)
            shape = (round(height * scale), round(width * scale))
            image = functional.interpolate(image, size=shape, mode="bicubic", antialias=True)
            top, left = (shape[0] - self.size) // 2, (shape[1] - self.size) // 2
            image = image[..., top:top + self.size, left:left + self.size]
        image = (255 * image).clamp(0, 255).round() / 255  # what training saw: pictures of 8 bits
        mean, std = (torch.tensor(v, device=image.device).view(3, 1, 1) for v in (self.mean, self.std))
        return (image - mean) / std

    @classmethod
    def of_folder(cls, folder: Path, default_size: int) -> Preparation:
        """What the folder's `preprocessor_config.json` says, or CLIP's own values."""
        file = folder / "preprocessor_config.json"
        given = read_object(file) if file.is_file() else {}
        size = _side(given.get("crop_size" if given.get("do_center_crop", True) else "size"), default_size)
        settings = {name: tuple(given[key]) for name, key in (("mean", "image_mean"), ("std", "image_std"))
                    if key in given}
        return cls(size=size, resize=max(size, _side(given.get("size"), size)), **settings)


def _side(value: Any, default: int) -> int:
    """The side in any of the forms that preprocessor files use: 224, {"shortest_edge": 224}, {"height": 224, ...}."""
    if isinstance(value, dict):
        value = value.get("shortest_edge") or value.get("height")
    return int(value) if value else default


@dataclass(kw_only=True, eq=False)
class TransformersImageText:
    """A CLIP in transformers' folder format (`config.json`, weights, tokenizer).

    Attributes:
        model: transformers' CLIPModel.
        tokenizer: its CLIPTokenizer.
        prepare: what its image side expects.
    """

    model: Any
    tokenizer: Any
    prepare: Preparation
    token_width: int = field(init=False)

    def __post_init__(self) -> None:
        self.token_width = self.model.config.text_config.hidden_size
        self._text: nn.Module = getattr(self.model.text_model, "text_model", self.model.text_model)
        self._table: nn.Module = self._text.embeddings.token_embedding
        fix = "Take a folder that transformers' CLIPModel was saved to, such as openai/clip-vit-large-patch14."
        check_projection("text projection", self.text_projection, fix)
        check_projection("image projection", self.model.visual_projection.weight, fix)

    @property
    def text_projection(self) -> Tensor:
        weight: Tensor = self.model.text_projection.weight
        return weight

    @torch.no_grad()
    def embed_images(self, pixels: Tensor) -> Tensor:
        weight = self.model.visual_projection.weight
        outputs = self.model.vision_model(pixel_values=self.prepare(pixels).to(weight.device, weight.dtype))
        return unit(self.model.visual_projection(outputs.pooler_output))

    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        return self.embed_tokens([self.tokenize(prompt)[:CONTENT_TOKENS] for prompt in prompts])

    def embed_tokens(self, rows: Sequence[TokenRow]) -> Tensor:
        ids, places, vectors = self._padded(rows)

        def put_vectors(_: nn.Module, __: Any, table_rows: Tensor) -> Tensor:
            return table_rows.index_put(places, vectors.to(table_rows)) if len(vectors) else table_rows

        handle = self._table.register_forward_hook(put_vectors)
        try:
            pooled = self._text(input_ids=ids).pooler_output
        finally:
            handle.remove()
        return unit(self.model.text_projection(pooled))

    def _padded(self, rows: Sequence[TokenRow]) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Ids (N, T) with any id where a vector stands, the places of the vectors, and the vectors (V, D)."""
        device = self.text_projection.device
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        for row in rows:
            check_row(row, self.token_width)
        length = max(len(row) for row in rows) + 2
        ids = torch.full((len(rows), length), end, dtype=torch.long)
        found = [(n, 1 + i, token) for n, row in enumerate(rows) for i, token in enumerate(row)]
        for n, i, token in found:
            ids[n, i] = start if isinstance(token, Tensor) else token
        ids[:, 0] = start
        learned = [(n, i, token) for n, i, token in found if isinstance(token, Tensor)]
        places = (torch.tensor([n for n, _, _ in learned], dtype=torch.long, device=device),
                  torch.tensor([i for _, i, _ in learned], dtype=torch.long, device=device))
        vectors = torch.stack([v.to(device) for *_, v in learned]) if learned else torch.zeros(0, self.token_width)
        return ids.to(device), places, vectors

    def tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def token_vectors(self, text: str) -> Tensor:
        table: Tensor = self._table.weight  # type: ignore[assignment]
        return table.detach()[torch.tensor(self.tokenize(text), dtype=torch.long, device=table.device)].float().clone()


def load_image_text(folder: str | Path, device: str | torch.device = "cpu") -> TransformersImageText:
    """The CLIP of a transformers folder, in float32; nothing is downloaded.

    Raises:
        InputError: for a folder that is missing or holds something else, and for missing or untrained projections.
    """
    place = path_of(folder, "path")
    config = read_config(place)
    require(config.get("model_type") == "clip", "path", f"a model of type {config.get('model_type')!r} in {place.name}",
            "a CLIP ('clip') with text and image side", "Choose a folder that CLIPModel was saved to.")
    from transformers import CLIPModel, CLIPTokenizer

    with torch.inference_mode(False), reading("path", place.name, "a whole transformers CLIP folder"):
        model, notes = CLIPModel.from_pretrained(str(place), local_files_only=True, dtype=torch.float32,
                                                 output_loading_info=True)
        tokenizer = CLIPTokenizer.from_pretrained(str(place), local_files_only=True)
        missing = sorted(notes["missing_keys"])
        require(not missing, "path", f"{place.name} without {', '.join(missing[:3])}", PAIR,
                "Take a folder that transformers' CLIPModel was saved to: transformers would fill these at random.")
        model = model.to(device).eval().requires_grad_(False)
        size = int(model.config.vision_config.image_size)
        return TransformersImageText(model=model, tokenizer=tokenizer, prepare=Preparation.of_folder(place, size))
