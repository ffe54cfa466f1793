"""Every prompt of a run as rows of conditioning: encoded once where nothing of it trains, in every micro-step where
something does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..data.examples import References
from ..learning.token_vectors import TokenVectors, reads
from ..model.contracts import Conditioning, TextEncoder, WordVectors

Key = tuple[str, str]
"""A prompt, and the key of the pictures that are looked at with it; empty for none."""


class TextSide:
    """Hands out rows of conditioning.

    Args:
        encoder: the loaded text encoder(s), with nothing put in yet.
        prompts: every text that the run can use.
        device: where the denoiser computes.
        token_vectors: the learned vectors, if any.
        is_trained: whether an adapter of the text encoder trains.
        base_prompts: what is read in place of a prompt whose words only this run knows, by `base_rows`.
        with_references: texts that the run can use beside references which the encoder looks at.
    """

    def __init__(self, encoder: TextEncoder, prompts: Sequence[str], device: torch.device,
                 token_vectors: TokenVectors | None = None, is_trained: bool = False,
                 base_prompts: Mapping[str, str] | None = None,
                 with_references: Sequence[tuple[str, References]] = ()):
        self.encoder, self.token_vectors, self.is_trained = encoder, token_vectors, is_trained
        self._shown = {_key(prompt, shown): shown for prompt, shown in with_references}
        base, keys = base_prompts or {}, [*((prompt, "") for prompt in prompts), *self._shown]
        with torch.no_grad():  # copies: an encoder may hand out inference tensors that no graph can keep
            rows = self._encode([(base.get(prompt, prompt), key) for prompt, key in keys], keys, {})
            self._frozen = {key: row.copy_to(device) for key, row in zip(keys, rows, strict=True)}

    @property
    def vectors(self) -> WordVectors:
        """The learned vectors as they are now."""
        return self.token_vectors.vectors if self.token_vectors is not None else {}

    def rows(self, prompts: Sequence[str], references: Sequence[References | None] = ()) -> list[Conditioning]:
        """One row per prompt, with a graph to whatever of it trains.

        Args:
            references: what stands beside each prompt; empty for nothing.
        """
        keys = _keys(prompts, references)
        learning = [key for key in dict.fromkeys(keys) if self.learns_from(key[0])]
        rows = self._encode(learning, learning, self.vectors) if learning else []
        encoded = dict(zip(learning, rows, strict=True))
        return [encoded.get(key) or self._frozen[key] for key in keys]

    def base_rows(self, prompts: Sequence[str], references: Sequence[References | None] = ()) -> list[Conditioning]:
        """The same as the loaded text encoder reads them, without anything that was learned."""
        return [self._frozen[key] for key in _keys(prompts, references)]

    def longest(self) -> tuple[str, References | None]:
        """The prompt whose encoding has the most tokens, and what is looked at with it."""
        key = max(self._frozen, key=lambda key: self._frozen[key].context.shape[1])
        return key[0], self._shown.get(key)

    def learns_from(self, prompt: str) -> bool:
        """Whether anything that trains takes part in this prompt's encoding."""
        return self.is_trained or any(reads(prompt, word) for word in self.vectors)

    def _encode(self, texts: Sequence[Key], keys: Sequence[Key], vectors: WordVectors) -> list[Conditioning]:
        prompts = [prompt for prompt, _ in texts]
        if not any(key in self._shown for key in keys):
            return self.encoder.encode(prompts, vectors)
        return self.encoder.encode(prompts, vectors, [self._shown[key].pictures if key in self._shown else ()
                                                      for key in keys])


def _keys(prompts: Sequence[str], references: Sequence[References | None]) -> list[Key]:
    return [_key(prompt, shown) for prompt, shown in zip(prompts, references or [None] * len(prompts), strict=True)]


def _key(prompt: str, shown: References | None) -> Key:
    return prompt, shown.key if shown is not None and shown.pictures else ""
