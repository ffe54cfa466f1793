"""The loaded CLIP as `core.model.contracts.TextEncoder`: frozen through ComfyUI's own encoding, or with gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from comfy.clip_model import CLIPLayer
from torch import Tensor, nn

from ....core.dci.phrases import content_tokens
from ....core.errors import require
from ....core.learning.token_vectors import reads
from ....core.model.contracts import Conditioning, WordVectors
from ....core.store.runs import read_cache, write_cache
from ..model.hashes import tensor_digest
from .adapter_keys import text_adapter_keys
from .learned_vectors import CLIP_ENCODERS, tokenize_with_vectors
from .pictures import tokenize_with_pictures

Pictures = Sequence[Tensor]
"""(H, W, 3) each, of whatever sizes."""
WeightedTokens = Sequence[tuple[Any, float]]


class ComfyTextEncoder:
    """Encodes prompts as CLIPTextEncode does.

    Args:
        clip: the loaded CLIP; its LoRA patches and clip-skip count.
        with_gradients: through `encode_with_gradients`, for training the text side.
        cache: folder of the run store and the CLIP's hash: frozen encodings are kept there between runs.
    """

    def __init__(self, clip: Any, with_gradients: bool = False, cache: tuple[Path, str] | None = None):
        self.clip, self.with_gradients, self.cache = clip, with_gradients, cache
        self.module: nn.Module = clip.cond_stage_model
        self.adapter_keys = text_adapter_keys(self.module)
        self.widths: Mapping[str, int] = {kind: self._table(kind).shape[1] for kind in self._kinds}
        self._frozen: dict[tuple[str, str], Conditioning] = {}

    def encode(self, prompts: Sequence[str], vectors: WordVectors | None = None,
               pictures: Sequence[Pictures] = ()) -> list[Conditioning]:
        """One row per prompt; prompts over 77 tokens become longer rows.

        Where a prompt has learned vectors, the CLIP must be inside `trainable` and `out_of_place_layers`.
        """
        return [self._encode(prompt, {word: found for word, found in (vectors or {}).items() if reads(prompt, word)},
                             shown) for prompt, shown in zip(prompts, pictures or [()] * len(prompts), strict=True)]

    def encoded(self, prompt: str) -> Conditioning | None:
        """The row of a prompt where an earlier run kept it; nothing is encoded."""
        shown = _digest_of(())
        return self._frozen.get((prompt, shown)) or self._from_disk(prompt, shown)

    def token_rows(self, text: str) -> dict[str, Tensor]:
        """For each text encoder the embedding rows (n, D) of a text's tokens; `embedding:` files give their vectors."""
        with torch.inference_mode(False), torch.no_grad():
            return {kind: self._rows(kind, text) for kind in self._kinds}

    @property
    def _kinds(self) -> list[str]:
        return [kind for kind, name in CLIP_ENCODERS.items() if getattr(self.module, name, None) is not None]

    def _table(self, kind: str) -> Tensor:
        weight: Tensor = getattr(self.module, CLIP_ENCODERS[kind]).transformer.get_input_embeddings().weight
        return weight

    def _rows(self, kind: str, text: str) -> Tensor:
        begin, end = (entry[0] for entry in self.clip.tokenize("")[kind][0][:2])
        chunks = [[token for token, *_ in chunk] for chunk in self.clip.tokenize(text)[kind]]
        tokens, table = content_tokens(chunks, begin, end).tokens, self._table(kind)
        require(bool(tokens), "start_text", repr(text), "one or more words to start from", "Write the class noun.")
        rows = [token if isinstance(token, Tensor) else table[token] for token in tokens]
        return torch.stack([row.detach().clone().float().cpu() for row in rows])

    def _encode(self, prompt: str, vectors: WordVectors, pictures: Pictures) -> Conditioning:
        if vectors or (self.with_gradients and torch.is_grad_enabled()):
            return encode_with_gradients(self.clip, prompt, vectors, pictures)
        return self._encode_frozen(prompt, pictures)

    def _encode_frozen(self, prompt: str, pictures: Pictures) -> Conditioning:
        if self.with_gradients:  # its adapter changes from step to step
            with torch.no_grad():
                return encode_with_gradients(self.clip, prompt, None, pictures)
        shown = _digest_of(pictures)
        if (prompt, shown) not in self._frozen:
            row = self._from_disk(prompt, shown) or self._to_disk(prompt, shown, encode(self.clip, prompt, pictures))
            self._frozen[prompt, shown] = row
        return self._frozen[prompt, shown]

    def _from_disk(self, prompt: str, shown: str) -> Conditioning | None:
        found = read_cache(self.cache[0], self._digest(prompt, shown)) if self.cache and is_cachable(prompt) else None
        return None if found is None else row_from_tensors(found)

    def _to_disk(self, prompt: str, shown: str, row: Conditioning) -> Conditioning:
        tensors = row_to_tensors(row) if self.cache and is_cachable(prompt) else None
        if self.cache and tensors is not None:
            write_cache(self.cache[0], self._digest(prompt, shown), tensors)
        return row

    def _digest(self, prompt: str, shown: str) -> str:
        """Of the weights and of how they are read: one file is the encoder of several families, each with its own
        template, padding and layers (Z-Image and Flux.2 klein, Qwen-Image and LongCat-Image, SDXL and SD3)."""
        assert self.cache is not None
        reader = type(self.module)
        settings = (f"{self.cache[1]}\0{self.clip.layer_idx}\0{sorted(self.clip.tokenizer_options.items())}\0{prompt}"
                    f"\0{reader.__module__}.{reader.__qualname__}\0{embedded_digest(self.clip, prompt)}")
        settings += f"\0{shown}" if shown else ""
        return f"{self._cache_name}-{hashlib.blake2b(settings.encode(), digest_size=20).hexdigest()}"

    @cached_property
    def _cache_name(self) -> str:
        """Earlier versions kept context and pooled output alone, which is all that CLIP's encoders give."""
        return "text" if set(self.clip.tokenize("")) <= set(CLIP_ENCODERS) else "row"


def is_cachable(prompt: str) -> bool:
    """Whether the CLIP's hash and the text say everything: textual inversion files may change."""
    return "embedding:" not in prompt


def embedded_digest(clip: Any, prompt: str) -> str:
    """Digest of the prompt's tokens, with the vectors of its textual inversion files."""
    digest = hashlib.blake2b(digest_size=20)
    for kind, chunks in sorted(clip.tokenize(prompt).items()):
        for token, weight, *_ in (entry for chunk in chunks for entry in chunk):
            digest.update(f"{kind}/{weight}/".encode())
            digest.update(tensor_digest(token) if torch.is_tensor(token) else repr(token).encode())
    return digest.hexdigest()


def _digest_of(pictures: Pictures) -> str:
    """Of what is looked at with a prompt; empty for nothing."""
    digest = hashlib.blake2b(digest_size=20)
    for picture in pictures:
        digest.update(f"{tuple(picture.shape)}".encode() + tensor_digest(picture))
    return digest.hexdigest() if pictures else ""


def encode(clip: Any, prompt: str, pictures: Pictures = ()) -> Conditioning:
    """One row, as CLIPTextEncode makes it, in tensors that autograd may use."""
    with torch.inference_mode(False), torch.no_grad():
        tokens = tokenize_with_pictures(clip, prompt, pictures) if pictures else clip.tokenize(prompt)
        found = clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
        return row_of(found.pop("cond"), found)


def row_of(context: Tensor, others: Mapping[str, Any]) -> Conditioning:
    """A row of all that a CONDITIONING holds; hooks, which change weights by the sampler's step, are no part of it.

    Args:
        context: (1, T, D).
        others: the dict beside it.
    """
    extra = {name: value for name, value in others.items() if name not in ("pooled_output", "hooks")}
    return Conditioning(context, others.get("pooled_output"), extra=extra).copy_to(context.device)


def row_to_tensors(row: Conditioning) -> dict[str, Tensor] | None:
    """A row as named tensors, which `row_from_tensors` reads; None where it holds more than tensors."""
    if not all(torch.is_tensor(value) for value in row.extra.values()):
        return None
    pooled = {} if row.pooled is None else {"pooled": row.pooled}
    return {"context": row.context} | pooled | {f"extra.{name}": value for name, value in row.extra.items()}


def row_from_tensors(tensors: Mapping[str, Tensor]) -> Conditioning:
    """The row that `row_to_tensors` gave."""
    extra = {name.removeprefix("extra."): value for name, value in tensors.items() if name.startswith("extra.")}
    return Conditioning(tensors["context"], tensors.get("pooled"), extra=extra)


def encode_with_gradients(clip: Any, prompt: str, vectors: WordVectors | None = None,
                          pictures: Pictures = ()) -> Conditioning:
    """The same row, with a graph back to the text encoder's adapters and to the vectors that words are read as: no
    model is moved, nothing edited in place.

    Needs `trainable` and `out_of_place_layers`, because ComfyUI's layers add in place.
    """
    model = clip.cond_stage_model
    model.reset_clip_options()
    model.set_clip_options({"layer": clip.layer_idx} if clip.layer_idx is not None else {})
    model.set_clip_options({"execution_device": clip.patcher.load_device})
    tokens = (tokenize_with_pictures(clip, prompt, pictures) if pictures
              else tokenize_with_vectors(clip, prompt, vectors or {}))
    if not all(key in CLIP_ENCODERS for key in tokens):
        context, pooled, *others = model.encode_token_weights(tokens)  # nothing of it is edited that the graph needs
        model.reset_clip_options()
        return Conditioning(context, pooled, extra=others[0] if others else {})
    rows = {key: _encode_chunks(getattr(model, CLIP_ENCODERS[key]), tokens[key])
            for key in sorted(tokens, reverse=True)}
    model.reset_clip_options()
    shortest = min(context.shape[1] for context, _ in rows.values())
    context = torch.cat([context[:, :shortest] for context, _ in rows.values()], dim=-1)  # l, then g
    return Conditioning(context, rows["g" if "g" in rows else next(iter(rows))][1])


def _encode_chunks(encoder: Any, chunks: Sequence[WeightedTokens]) -> tuple[Tensor, Tensor | None]:
    """Chunks of 77 weighted tokens side by side: context (1, 77 k, D) and the first chunk's pooled output."""
    ids = [[token for token, *_ in chunk] for chunk in chunks]
    weights = [[weight for _, weight, *_ in chunk] for chunk in chunks]
    weighted = any(weight != 1.0 for row in weights for weight in row)
    if weighted:
        ids.append(_empty_tokens(encoder.special_tokens, len(ids[0])))
    context, pooled = encoder.encode(ids)[:2]
    if weighted:
        scale = torch.tensor(weights, device=context.device, dtype=context.dtype)[..., None]
        context = context[-1:] + (context[:-1] - context[-1:]) * scale
    return torch.cat(list(context[:, None]), dim=1), None if pooled is None else pooled[:1]


def _empty_tokens(special: Mapping[str, int], length: int) -> list[int]:
    start = [special[name] for name in ("start", "end") if special.get(name) is not None]
    return start + [special["pad"]] * (length - len(start))


def learns_vectors(clip: Any) -> bool:
    """Whether all text encoders are CLIP's."""
    return all(kind in CLIP_ENCODERS and hasattr(clip.cond_stage_model, CLIP_ENCODERS[kind])
               for kind in clip.tokenize("a"))


def check_learns_vectors(clip: Any, what: str, fix: str) -> None:
    """Raise `InputError` for text encoders that are not CLIP's: of those alone words are learned as vectors."""
    require(learns_vectors(clip), what, f"a CLIP with the encoders {', '.join(sorted(clip.tokenize('a')))}",
            "CLIP-L, CLIP-G or CLIP-H alone: words of other encoders are not learned as vectors", fix)


@contextmanager
def out_of_place_layers(module: nn.Module) -> Iterator[None]:
    """Within the context CLIP's layers add out of place, so that a backward pass can go through them."""
    layers = [layer for layer in module.modules() if isinstance(layer, CLIPLayer)]
    for layer in layers:
        layer.forward = partial(_layer_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _layer_forward(layer: CLIPLayer, x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None) -> Tensor:
    """A pre-norm transformer layer: x + attention(norm(x)), then x + mlp(norm(x))."""
    x = x + layer.self_attn(layer.layer_norm1(x), mask, optimized_attention)
    return x + layer.mlp(layer.layer_norm2(x))
