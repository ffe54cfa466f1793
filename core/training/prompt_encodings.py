"""Every prompt of a run as rows of conditioning: encoded once where nothing of it trains, in every micro-step where
something does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..learning.token_vectors import TokenVectors, reads
from ..model.contracts import Conditioning, TextEncoder, WordVectors


class TextSide:
    """Hands out rows of conditioning.

    Args:
        encoder: the loaded text encoder(s), with nothing put in yet.
        prompts: every text that the run can use.
        device: where the denoiser computes.
        token_vectors: the learned vectors, if any.
        is_trained: whether an adapter of the text encoder trains.
        base_prompts: what is read in place of a prompt whose words only this run knows, by `base_rows`.
    """

    def __init__(self, encoder: TextEncoder, prompts: Sequence[str], device: torch.device,
                 token_vectors: TokenVectors | None = None, is_trained: bool = False,
                 base_prompts: Mapping[str, str] | None = None):
        self.encoder, self.token_vectors, self.is_trained = encoder, token_vectors, is_trained
        base = base_prompts or {}
        texts = [base.get(prompt, prompt) for prompt in prompts]
        with torch.no_grad():  # copies: an encoder may hand out inference tensors that no graph can keep
            self._frozen = {prompt: row.copy_to(device)
                            for prompt, row in zip(prompts, encoder.encode(texts), strict=True)}

    @property
    def vectors(self) -> WordVectors:
        """The learned vectors as they are now."""
        return self.token_vectors.vectors if self.token_vectors is not None else {}

    def rows(self, prompts: Sequence[str]) -> list[Conditioning]:
        """One row per prompt, with a graph to whatever of it trains."""
        learning = [prompt for prompt in dict.fromkeys(prompts) if self.learns_from(prompt)]
        encoded = dict(zip(learning, self.encoder.encode(learning, self.vectors), strict=True)) if learning else {}
        return [encoded.get(prompt) or self._frozen[prompt] for prompt in prompts]

    def base_rows(self, prompts: Sequence[str]) -> list[Conditioning]:
        """The same as the loaded text encoder reads them, without anything that was learned."""
        return [self._frozen[prompt] for prompt in prompts]

    def longest(self) -> str:
        """The prompt whose encoding has the most tokens."""
        return max(self._frozen, key=lambda prompt: self._frozen[prompt].context.shape[1])

    def learns_from(self, prompt: str) -> bool:
        """Whether anything that trains takes part in this prompt's encoding."""
        return self.is_trained or any(reads(prompt, word) for word in self.vectors)
