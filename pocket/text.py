"""How do captions become token ids and embeddings? CLIP's real BPE, a small text transformer.

Training keeps only the token rows that captions use (a *compact* table of a few hundred rows); export puts them
back into CLIP's 49,408 rows, where every other row is drawn at the same deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .config import BOS, EOS, MAX_TOKENS, TEXT_CONFIG, VOCAB_SIZE
from .names import load_names, tokenizer_folder
from .world import training_scene

TOKEN_STD = 0.3
"""Deviation of every token row at the start. Rows of names are frozen there, so that a row that was never trained
(a user's identifier) comes from the same distribution as the row of a known individual."""
TABLE_SEED = 20
LEAST_MOVED = 0.005
"""Rows that captions used moved by 0.04 or more in some column; storing a row in half precision moves it by 0.0005."""


@cache
def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer from ComfyUI's own files."""
    return CLIPTokenizer.from_pretrained(str(tokenizer_folder()))


def tokenize(captions: list[str]) -> torch.Tensor:
    """(B, 77) ids, padded with EOS as ComfyUI's SD1 tokenizer does."""
    rows = [[BOS, *tokenizer()(c, add_special_tokens=False)["input_ids"][:MAX_TOKENS - 2]] for c in captions]
    return torch.tensor([row + [EOS] * (MAX_TOKENS - len(row)) for row in rows])


def full_table() -> torch.Tensor:
    """The initial table, (49408, width): the same draw for training and export."""
    generator = torch.Generator().manual_seed(TABLE_SEED)
    return TOKEN_STD * torch.randn(VOCAB_SIZE, TEXT_CONFIG["hidden_size"], generator=generator)


def was_learned(table: torch.Tensor, ids: list[int]) -> list[bool]:
    """Whether base training moved the rows of these ids from their start; a name's row never moves."""
    start = full_table()[ids]
    return ((table[ids].detach().cpu().float() - start).abs().amax(dim=1) > LEAST_MOVED).tolist()


@dataclass(frozen=True)
class Vocabulary:
    """The ids that captions use, in order, and which of them are names."""

    ids: torch.Tensor
    is_name: torch.Tensor

    def compact(self, ids: torch.Tensor) -> torch.Tensor:
        """CLIP ids -> rows of the compact table; an id outside it raises ValueError."""
        rows = torch.searchsorted(self.ids, ids)
        if not torch.equal(self.ids[rows.clamp(max=len(self.ids) - 1)], ids):
            raise ValueError("tokens: got ids outside the training vocabulary; use the exported encoder instead")
        return rows


def training_vocabulary(captions: int = 4000) -> Vocabulary:
    """Scans captions of the world; every name is included."""
    names = {tokenizer()(n, add_special_tokens=False)["input_ids"][0] for n in load_names()}
    seen = set(tokenize([training_scene(i).caption for i in range(captions)]).flatten().tolist())
    ids = torch.tensor(sorted(seen | names | {BOS, EOS}))
    return Vocabulary(ids=ids, is_name=torch.tensor([i in names for i in ids.tolist()]))


def build_text_encoder(rows: int) -> CLIPTextModel:
    """A text transformer over a table of `rows` rows."""
    config: dict[str, Any] = TEXT_CONFIG | {"vocab_size": rows, "bos_token_id": 0, "eos_token_id": rows - 1,
                                            "pad_token_id": rows - 1}
    return CLIPTextModel(CLIPTextConfig(**config))


def build_compact_encoder(vocabulary: Vocabulary) -> CLIPTextModel:
    """The encoder that is trained; the rows of names never get a gradient."""
    model = build_text_encoder(len(vocabulary.ids))
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(full_table()[vocabulary.ids])
    learned = (~vocabulary.is_name).float()[:, None]
    table.register_hook(lambda gradient: gradient * learned)
    return model


def expand_encoder(compact: dict[str, torch.Tensor], vocabulary: Vocabulary) -> dict[str, torch.Tensor]:
    """State dict of the compact encoder -> state dict with CLIP's full table."""
    state = dict(compact)
    key = next(k for k in state if k.endswith("token_embedding.weight"))
    table = full_table()
    table[vocabulary.ids] = state[key].float()
    state[key] = table
    return state
