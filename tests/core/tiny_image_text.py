"""An image-text encoder of a few numbers: a token table, one nonlinear layer, two projections."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from comfyui_personalize.core.model.image_text import unit

WORDS = ["a", "sks", "dog", "cat", "photo", "of", "."]


class TinyImageText:
    """D token width, P joint width. Order matters, as in a transformer: each token is scaled by its place."""

    def __init__(self, token_width: int = 16, joint: int = 6, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator), requires_grad=False)

        self.token_width = token_width
        self.table, self.layer = draw(len(WORDS), token_width), draw(token_width, token_width)
        self.text_projection, self.image_projection = draw(joint, token_width), draw(joint, 3)

    def tokenize(self, text: str) -> list[int]:
        return [WORDS.index(word) for word in text.split()]

    def token_vectors(self, text: str) -> Tensor:
        return self.table.detach()[self.tokenize(text)].clone()

    def embed_tokens(self, rows) -> Tensor:
        pooled = []
        for row in rows:
            vectors = torch.stack([token if isinstance(token, Tensor) else self.table[token] for token in row])
            places = torch.arange(1, len(row) + 1).sqrt()[:, None]
            pooled.append((vectors / places).mean(dim=0) @ self.layer.T)
        return unit(torch.stack(pooled).tanh() @ self.text_projection.T)

    def embed_texts(self, prompts) -> Tensor:
        return self.embed_tokens([self.tokenize(prompt) for prompt in prompts])

    def embed_images(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return unit(pixels.mean(dim=(1, 2)) @ self.image_projection.T)
