"""Which rows of a network call are computed: a prediction that both branches share is made for concept rows only.

ComfyUI puts the prompts of a step into one network call where memory allows, each on all 2 B latents, and takes the
memory of 2 B rows for each. What reaches the network here are blocks of B rows: concept and auxiliary rows of a paired
entry, concept rows of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ....core.dci.latents import share_noise_prediction
from .branch_mixing import Pairs


@dataclass(frozen=True)
class BranchRows:
    """The APPLY_MODEL wrapper of one network call.

    Attributes:
        rows: B, pictures.
        pairs: the entries that have a text for each branch.
        shared: the auxiliary rows of all other entries take the concept rows' noise prediction.
    """

    rows: int
    pairs: Pairs
    shared: bool

    def __call__(self, executor: Any, latents: Tensor, sigma: Tensor, concatenated: Tensor | None = None,
                 context: Tensor | None = None, control: Any = None, options: Mapping[str, Any] | None = None,
                 **others: Any) -> Tensor:
        """Estimates D(z) of every entry's 2 B latents, one entry after the other."""
        options = options or {}
        entries = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        blocks = [block for number, entry in enumerate(entries)
                  for block in ((2 * number,) if self._is_shared(entry) else (2 * number, 2 * number + 1))]
        owners = {name: [options[name][block // 2] for block in blocks] for name in ("cond_or_uncond", "uuids")}

        def kept(value: Any) -> Any:
            return self._kept(value, blocks, latents.shape[0])

        estimates = executor(kept(latents), kept(sigma), kept(concatenated), kept(context), kept(control),
                             {**options, **owners}, **{name: kept(value) for name, value in others.items()})
        return self._completed(dict(zip(blocks, estimates.split(self.rows), strict=True)), latents.split(self.rows))

    def _is_shared(self, entry: tuple[int, Any]) -> bool:
        return self.shared and entry not in self.pairs

    def _kept(self, value: Any, blocks: list[int], total: int) -> Any:
        """The blocks of what has a row for every latent; anything else as it is."""
        if isinstance(value, list):
            return [self._kept(each, blocks, total) for each in value]
        if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != total:
            return value
        return value if len(blocks) * self.rows == total else torch.cat([value.split(self.rows)[block]
                                                                         for block in blocks])

    @staticmethod
    def _completed(estimates: dict[int, Tensor], latents: tuple[Tensor, ...]) -> Tensor:
        """The estimates of all blocks, from those of the blocks that were computed."""
        return torch.cat([estimates[block] if block in estimates else
                          share_noise_prediction(estimates[block - 1], latents[block - 1], latents[block])
                          for block in range(len(latents))])


def with_branch_rows(options: dict[str, Any], rows: BranchRows, key: str) -> dict[str, Any]:
    """A copy of the model options in which network calls hold these rows."""
    changed = create_model_options_clone(options)
    add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, rows, changed, True)
    return changed
