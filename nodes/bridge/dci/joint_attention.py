"""Where DCI mixes in networks without a UNet's cross-attention layers: diffusion transformers of any kind.
Experimental.

Image queries over the text keys alone are what cross-attention computes, so they give the masks, whether image and text
attend jointly or apart; what is mixed are the image tokens' outputs before the output projection, and text tokens keep
their own. The derivation is in docs/dci_joint_attention.md; which attentions those are, `attention_probe` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor, nn

from ....core.errors import InputError, require
from .attention_probe import Look, Site, heads_of, look_at
from .branch_mixing import BranchMixing, Pairs, mixing_layers

EXPERIMENTAL = ("DCI on models whose image and text attend jointly is experimental: its mechanics are tested on small "
                "random models, its pictures on none.")
SUPPORTED = ("a network whose attention of the image to the text nodes can reach: the UNets of SD 1.x, SD 2.x and "
             "SDXL, or most diffusion transformers (experimental)")
FIX = "Sample this model without DCI, or use another."
KEY = "personalize_dci_attention"


@dataclass(frozen=True)
class JointAttentionSites:
    """The attentions of a diffusion transformer in which the image reads the text.

    Attributes:
        names: name and scale of each, as one look at small latents found them. They are looked for again with every
            run's own latents and text, in its first network call.
    """

    names: Mapping[str, int]

    def install(self, options: dict[str, Any], run: BranchMixing, pairs: Pairs) -> dict[str, Any]:
        """Model options with DBIM in the attentions that mix, around earlier replacements.

        Raises:
            InputError: from the network call, where it has no site.
        """
        changed = create_model_options_clone(options)
        add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _NetworkCall(run, pairs), changed, True)
        return changed


@dataclass(frozen=True)
class _NetworkCall:
    """The APPLY_MODEL wrapper of one network call: its attentions are counted, and those that are sites mix."""

    run: BranchMixing
    pairs: Pairs

    def __call__(self, executor: Any, latents: Tensor, sigma: Tensor, concatenated: Tensor | None = None,
                 context: Tensor | None = None, control: Any = None, options: Mapping[str, Any] | None = None,
                 **others: Any) -> Tensor:
        options = options or {}
        arguments = latents, sigma, concatenated, context, control
        if not any(entry in self.pairs for entry in zip(options["cond_or_uncond"], options["uuids"], strict=True)):
            found: Tensor = executor(*arguments, options, **others)
            return found
        sites = self._sites(executor, arguments, options, others)
        attention = _Attention(self.run, self.pairs, sites, options.get("optimized_attention_override"))
        mixed: Tensor = executor(*arguments, {**options, "optimized_attention_override": attention}, **others)
        return mixed

    def _sites(self, executor: Any, arguments: tuple[Any, ...], options: Mapping[str, Any],
               others: Mapping[str, Any]) -> dict[int, Site]:
        """The sites that mix in calls of these shapes, by number; looked for once a run."""
        latents, sigma, concatenated, context, control = arguments
        replaced = options.get("patches_replace", {}).get("dit", {})
        key = (_shapes([latents, context, *others.values()]), frozenset(map(str, replaced)))
        if key not in self.run.memory:
            def forward(x: Tensor, text: Tensor, override: Callable[..., Tensor]) -> Any:
                return executor.original(x, sigma, concatenated, text, control,
                                         {**options, "optimized_attention_override": override}, **others)

            network = executor.class_obj.diffusion_model
            try:
                look = look_at(network, forward, latents, context)
            except RuntimeError as reason:  # HunyuanImage and OmniGen2 take no mask for several rows
                raise InputError("prompt", f"two texts in one call, which {type(network).__name__} refuses: {reason}",
                                 "texts that need no padding", "Choose an auxiliary noun of as many tokens as the "
                                 "subject has, or sample without DCI.") from reason
            self.run.memory[key] = check_sites(network, look)
        found = {site.name: site for site in self.run.memory[key]}
        mixing = mixing_layers({name: site.scale for name, site in found.items()}, self.run.config)
        return {found[name].number: found[name] for name in mixing}


class _Attention:
    """ComfyUI's attention during one network call, with DBIM at the sites, on concept rows of every paired entry.

    Args:
        run: the call's.
        pairs: the entries that both branches see.
        sites: those that mix, by the number of their attention call.
        before: another node's attention, or None.
    """

    def __init__(self, run: BranchMixing, pairs: Pairs, sites: Mapping[int, Site],
                 before: Callable[..., Tensor] | None):
        self.run, self.pairs, self.sites, self.before = run, pairs, sites, before
        self.number = -1

    def __call__(self, function: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, heads: int,
                 *arguments: Any, **settings: Any) -> Tensor:
        """Outputs of all rows in the call, as the attention gives them."""
        self.number += 1
        inside = (query, key, value, heads, *arguments)
        out = function(*inside, **settings) if self.before is None else self.before(function, *inside, **settings)
        site = self.sites.get(self.number)
        if site is None:
            return out
        is_split = settings.get("skip_reshape", False)
        queries, keys = heads_of(query, heads, is_split), _keys(key, query, heads, is_split)
        require((queries.shape[2], keys.shape[2]) == (site.queries, site.keys), "model",
                "attention calls in another order than when DCI looked at them", "the same in every step",
                "Take the node that skips or adds blocks of the network, or DCI, out of the graph.")
        out = out if self.before is None else out.clone()
        outputs = heads_of(out, heads, settings.get("skip_output_reshape", False))
        queries = queries[:, :, site.image] * (settings["scale"] * queries.shape[-1] ** 0.5) if "scale" in settings \
            else queries[:, :, site.image]
        keys, bias = keys[:, :, site.text], _text_bias(arguments[0] if arguments else settings.get("mask"), site)
        for span, prompt in self.run.spans(settings["transformer_options"], self.pairs):
            rows = slice(span.start, span.start + self.run.rows)
            outputs[rows][:, :, site.image] = self.run.mix(
                site.name, outputs[span][:, :, site.image], queries[span], keys[span], prompt,
                bias if bias is None or len(bias) == 1 else bias[span])
        return out


def check_sites(network: nn.Module, look: Look | None) -> tuple[Site, ...]:
    """The sites that were seen; raises `InputError` for a network without one."""
    kind = type(network).__name__
    require(look is not None, "model", f"{kind}, which ran with no text that DCI made up to look at its attention",
            SUPPORTED, FIX)
    assert look is not None
    require(look.calls > 0, "model", f"{kind}, which shows its attention to no node (it calls attention without "
            "transformer_options)", SUPPORTED, FIX)
    require(bool(look.sites), "model", f"{kind}, in none of whose {look.calls} attention calls the image was seen to "
            "read the text", SUPPORTED, FIX)
    return look.sites


def _shapes(values: Iterable[Any]) -> tuple[Any, ...]:
    """The shapes of tensors, also of those in lists; numbers as they are."""
    return tuple(tuple(value.shape) if isinstance(value, Tensor) else _shapes(value) if isinstance(value, list) else
                 value if isinstance(value, int) else None for value in values)


def _keys(key: Tensor, query: Tensor, heads: int, is_split: bool) -> Tensor:
    """Keys (R, H, L, d), repeated where several heads share one."""
    width = query.shape[-1] if is_split else query.shape[-1] // heads
    split = key if is_split else key.unflatten(-1, (-1, width)).transpose(1, 2)
    return split if split.shape[1] == heads else split.repeat_interleave(heads // split.shape[1], 1)


def _text_bias(mask: Tensor | None, site: Site) -> Tensor | None:
    """What an attention mask adds to the logits of the image over the text's columns, (1 or R, 1, 1, T).

    None where every column is there and nothing is masked. What it says of the first image token holds for all.
    """
    if mask is None:
        return None if site.missing is None else torch.where(site.missing, -torch.inf, 0.0)[None, None, None]
    whole = mask if mask.ndim == 4 else mask.unflatten(0, (-1, 1)) if mask.ndim == 3 else mask[None, None]
    row = whole[:, :1, min(site.first, whole.shape[2] - 1), site.text][:, :, None]
    added = torch.where(row, 0.0, -torch.inf) if row.dtype == torch.bool else row.float()
    return added if site.missing is None else torch.where(site.missing, -torch.inf, added)
