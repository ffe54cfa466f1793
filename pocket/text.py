"""The text encoder: CLIP's text transformer at pocket width, in plain torch, under the keys that ComfyUI reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import CONTEXT_DIM, MAX_TOKENS, TEXT_HEADS, TEXT_LAYERS
from .rows import counter_rows
from .tokens import Vocabulary, vocabulary


class SelfAttention(nn.Module):
    """Causal self-attention with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(CONTEXT_DIM, CONTEXT_DIM) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (project(x).unflatten(-1, (TEXT_HEADS, -1)).transpose(1, 2)
                   for project in (self.q_proj, self.k_proj, self.v_proj))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask).softmax(-1)
        return self.out_proj((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with x sigmoid(1.702 x) between them (quick_gelu)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(CONTEXT_DIM, 4 * CONTEXT_DIM), nn.Linear(4 * CONTEXT_DIM, CONTEXT_DIM)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.fc1(x)
        return self.fc2(inner * torch.sigmoid(1.702 * inner))


class Layer(nn.Module):
    """A transformer layer, normalised before each part."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(CONTEXT_DIM), nn.LayerNorm(CONTEXT_DIM)
        self.self_attn, self.mlp = SelfAttention(), MLP()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """(B, 77) compact rows -> (B, 77, 128), final layer norm applied.

    Rows of names keep their counter values for good and are no parameters: an identifier that was never trained comes
    from the same distribution as the name of a known individual.
    """

    def __init__(self, words: Vocabulary | None = None) -> None:
        super().__init__()
        self.words = words or vocabulary()
        rows = counter_rows(self.words.ids)
        self.learned_rows = nn.Parameter(rows[:self.words.learned].clone())
        self.name_rows: Tensor
        self.register_buffer("name_rows", rows[self.words.learned:], persistent=False)
        self.positions = nn.Parameter(0.02 * torch.randn(MAX_TOKENS, CONTEXT_DIM))
        self.layers = nn.ModuleList(Layer() for _ in range(TEXT_LAYERS))
        self.final_layer_norm = nn.LayerNorm(CONTEXT_DIM)

    def forward(self, rows: Tensor) -> Tensor:
        table = torch.cat([self.learned_rows, self.name_rows])
        x = functional.embedding(rows.long(), table) + self.positions
        mask = torch.full((MAX_TOKENS, MAX_TOKENS), -1e4, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, mask)
        return self.final_layer_norm(x)

    def encode(self, captions: list[str]) -> Tensor:
        """Captions -> (B, 77, 128)."""
        rows = torch.stack([torch.from_numpy(self.words.encode(caption)) for caption in captions])
        return self(rows.to(self.positions.device))
