"""Where DCI mixes in models whose image and text tokens attend jointly (SD3, SD3.5, Flux). Experimental.

These have no cross-attention. In every joint attention, the image queries over the text keys alone are what
cross-attention computes, so they give the masks; what is mixed are the image tokens' outputs before the output
projection, and text tokens keep their own. The derivation is in docs/dci_joint_attention.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from torch import Tensor, nn

from ....core.errors import require
from .branch_mixing import BranchMixing, Pairs

EXPERIMENTAL = ("DCI on models with joint attention (SD3, Flux) is experimental: its mechanics are tested on small "
                "random models, its pictures on none.")
Block = tuple[str, int]
"""A block as ComfyUI's block replacements name it: kind, and number within the kind."""


@dataclass(frozen=True)
class JointAttentionSites:
    """The joint attentions of a diffusion transformer.

    Attributes:
        names: name and scale of each; the scale is the patch size, since every token is one patch of the latents.
        blocks: the same as ComfyUI names them.
    """

    names: Mapping[str, int]
    blocks: Mapping[str, Block]

    def install(self, options: dict[str, Any], run: BranchMixing, pairs: Pairs) -> dict[str, Any]:
        """Model options with DBIM in the joint attentions that mix, around earlier replacements.

        Raises:
            InputError: where the two prompts have contexts of different lengths: repeating text, as cross-attention
                allows, would change joint attention.
        """
        for prompt in pairs.values():
            lengths = prompt.concept.length, prompt.auxiliary.length
            require(lengths[0] == lengths[1], "prompt", f"{lengths[0]} text tokens beside {lengths[1]} of the "
                    "auxiliary prompt", "as many in both", "Shorten the prompt, or choose an auxiliary noun of as many "
                    "tokens as the subject has.")
        transformer = options.get("transformer_options", {})
        replace = transformer.get("patches_replace", {})
        before = replace.get("dit", {})
        mixing = {block: _Block(name, before.get(block), run, pairs)
                  for name, block in self.blocks.items() if name in run.layers}
        replace = {**replace, "dit": {**before, **mixing}}
        return {**options, "transformer_options": {**transformer, "patches_replace": replace}}


def joint_attention_sites(network: nn.Module) -> JointAttentionSites | None:
    """The sites of a diffusion transformer of a known kind, or None."""
    if isinstance(network, MMDiT) and network.register_length == 0:
        found = [("double_block", number) for number in range(len(network.joint_blocks))]
    elif isinstance(network, Flux):
        found = [("double_block", number) for number in range(len(network.double_blocks))]
        found += [("single_block", number) for number in range(len(network.single_blocks))]
    else:
        return None
    names = {f"{kind.removesuffix('_block')} {number}": (kind, number) for kind, number in found}
    return JointAttentionSites(dict.fromkeys(names, int(network.patch_size)), names)


@dataclass(frozen=True)
class _Block:
    """One block, whose joint attention is watched; the block itself runs as it is, or as it was replaced before."""

    name: str
    before: Callable[..., Any] | None
    run: BranchMixing
    pairs: Pairs

    def __call__(self, arguments: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        options = arguments["transformer_options"]
        is_single = "txt" not in arguments  # text and image tokens are one sequence there
        text = options["img_slice"][0] if is_single else arguments["txt"].shape[1]
        total = arguments["img"].shape[1] + (0 if is_single else text)
        references = sum(options.get("reference_image_num_tokens", ()))
        attention = _JointAttention(self, options.get("optimized_attention_override"), text, total, references)
        watched = {**arguments, "transformer_options": {**options, "optimized_attention_override": attention}}
        return extra["original_block"](watched) if self.before is None else self.before(watched, extra)


@dataclass(frozen=True)
class _JointAttention:
    """ComfyUI's attention of one block, with DBIM on the image tokens of the concept rows of every paired entry.

    Attributes:
        block: whose attention.
        before: another node's attention, or None.
        text: T, the text tokens, which come first.
        total: all tokens; another number is another attention of the block (SD3.5 has one of the image alone).
        references: image tokens at the end that are other pictures' (Flux Kontext): they are not mixed.
    """

    block: _Block
    before: Callable[..., Any] | None
    text: int
    total: int
    references: int

    def __call__(self, function: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, heads: int,
                 *arguments: Any, **settings: Any) -> Tensor:
        """Outputs (R, T + N, H d) of all rows in the call."""
        inside = (query, key, value, heads, *arguments)
        out = function(*inside, **settings) if self.before is None else self.before(function, *inside, **settings)
        if query.shape[-2 if settings.get("skip_reshape") else 1] != self.total:
            return out
        run, out = self.block.run, out if self.before is None else out.clone()
        image = slice(self.text, self.total - self.references)
        queries, keys = (_heads(rows, heads, settings.get("skip_reshape", False)) for rows in (query, key))
        outputs = _heads(out, heads, False)
        for span, prompt in run.spans(settings["transformer_options"], self.block.pairs):
            mixed = run.mix(self.block.name, outputs[span][:, :, image], queries[span][:, :, image],
                            keys[span][:, :, : self.text], prompt)
            out[span][: run.rows, image] = mixed.transpose(1, 2).flatten(2)
        return out


def _heads(rows: Tensor, heads: int, is_split: bool) -> Tensor:
    """(R, N, H d), or (R, H, N, d) where it is split already, to (R, H, N, d)."""
    return rows if is_split else rows.unflatten(-1, (heads, -1)).transpose(1, 2)
