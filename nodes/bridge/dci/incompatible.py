"""What DCI does not work beside: node patches that count rows, found before the first step.

A sampling run with DCI has 2 B rows, of which the network sees B or 2 B: a patch that pairs rows across calls by their
number, or takes a mean over them, would silently do the wrong thing to the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ....core.errors import require

_MODULES = {
    "comfy_extras.nodes_sag": ("Self-Attention Guidance", "It pairs attention maps with pictures by counting rows"),
}
_WRAPPERS = {
    "easycache": ("EasyCache", "It reuses differences between calls that have other numbers of rows here"),
    "lazycache": ("LazyCache", "It decides by a mean over all rows which steps to skip, the auxiliary pictures' too"),
}
_GUIDANCE = {
    "comfy_extras.nodes_perpneg": ("PerpNeg (deprecated)", "It takes one mean over all rows, the auxiliary pictures' "
                                   "too; the Perp-Neg Guider works"),
}


def check_model_options(options: Mapping[str, Any]) -> None:
    """Refuse what DCI would silently break.

    Args:
        options: the guider's model options.

    Raises:
        InputError: with the node's name and what to do.
    """
    for name, reason in _found(options):
        require(False, "model", f"DCI together with {name}", "a model without it",
                f"{reason}: take that node or DCI out of the graph.")


def _found(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if options.get("context_handler") is not None:
        yield "context windows", "They cut the batch into frames"
    for function in options.get("sampler_post_cfg_function", ()):
        if function.__module__ in _MODULES:
            yield _MODULES[function.__module__]
    guidance = getattr(options.get("sampler_cfg_function"), "__module__", None)
    if guidance in _GUIDANCE:
        yield _GUIDANCE[guidance]
    wrappers = options.get("transformer_options", {}).get("wrappers", {})
    for key in {key for found in wrappers.values() for key in found}:
        if key in _WRAPPERS:
            yield _WRAPPERS[key]
