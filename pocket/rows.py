"""Token rows that were never trained are not stored: they are made from a counter whenever they are needed.

Row r, column c is a hash of 128 r + c, turned into a number that is nearly normal by adding four uniform ones. Integers
until the last step, so the same bits everywhere, whatever the library's version.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from .config import CONTEXT_DIM, VOCAB_SIZE

TOKEN_STD: Final = 0.3
"""Deviation of every row that was not trained: the names' (frozen) and all others, so that an unseen word is no
outlier, and the start of those that train."""
TABLE: Final = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
TOKEN_IDS: Final = "cond_stage_model.token_ids"  # noqa: S105 - a tensor's name
TOKEN_ROWS: Final = "cond_stage_model.token_rows"  # noqa: S105 - a tensor's name
"""The trained rows and their ids, in the file in place of the whole table."""
SEED: Final = 0x706F636B65743200
_MEAN: Final = 4 * 65535 / 2
_STD: Final = (4 * (65536**2 - 1) / 12) ** 0.5


def counter_rows(ids: Tensor) -> Tensor:
    """Rows of the token table by id, (N, 128) float32 of deviation `TOKEN_STD`, exactly representable in float16."""
    counter = ids.numpy().astype(np.uint64)[:, None] * CONTEXT_DIM + np.arange(CONTEXT_DIM, dtype=np.uint64)
    bits = splitmix64(counter + np.uint64(SEED))
    total = sum((bits >> np.uint64(16 * k) & np.uint64(0xFFFF)).astype(np.int64) for k in range(4))
    rows = (total - _MEAN) * (TOKEN_STD / _STD)
    return torch.from_numpy(rows.astype(np.float16)).float()


def expand_table(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors with CLIP's whole token table; those of a file that has it stay as they are."""
    if TOKEN_ROWS not in tensors:
        return tensors
    rest = {key: value for key, value in tensors.items() if key not in (TOKEN_ROWS, TOKEN_IDS)}
    return rest | {TABLE: full_table(tensors[TOKEN_IDS], tensors[TOKEN_ROWS])}


def full_table(ids: Tensor, rows: Tensor) -> Tensor:
    """CLIP's 49,408 rows in float16: the trained ones where ids say so, counter rows elsewhere."""
    table = counter_rows(torch.arange(VOCAB_SIZE)).half()
    table[ids.long()] = rows.to(table)
    return table


def splitmix64(x: np.ndarray) -> np.ndarray:
    """Sixty-four bits from a counter, uint64 -> uint64.

    Source: Steele, Lea, Flood 2014, fast splittable pseudorandom number generators.
    """
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
