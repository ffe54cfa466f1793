"""LoRA inside a loaded network, put in and out again: W x + (alpha / rank) B A x (arXiv:2106.09685, eq. 3).

peft makes the layers; this file decides where they go, seeds them without the global generator, keeps them in
float32 whatever the network's storage is, and restores every base module when they leave.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .conditioning import Denoiser, TextEncoder
from .data import generator_for
from .errors import InputError, require

# Attention projections as ldm / ComfyUI, diffusers, CLIP, T5, SD3 and Flux name them.
_ATTENTION = (
    r"(.*\.)?\w*attn\w*\.(to_q|to_k|to_v|to_out\.0|q_proj|k_proj|v_proj|out_proj|qkv|proj"
    r"|add_[qkv]_proj|to_add_out)"
    r"|(.*\.)?SelfAttention\.[qkvo]|(.*\.)?single_blocks\.\d+\.linear[12]"
)
_CROSS_ATTENTION_KV = r"(.*\.)?attn2\.(to_k|to_v)|(.*\.)?self_attn\.(k_proj|v_proj)"
_FEED_FORWARD = r"(.*\.)?ff(_context)?\.net\.(0\.proj|2)|(.*\.)?mlp\.fc[12]|(.*\.)?(img|txt)_mlp\.[02]"
TARGETS = {
    "attention": _ATTENTION,
    "cross_attention_kv": _CROSS_ATTENTION_KV,  # Custom Diffusion's set; in a text encoder its own
    "attention_and_feed_forward": f"{_ATTENTION}|{_FEED_FORWARD}",
}
_NAME = "default"


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Which layers learn, and how much.

    Attributes:
        kind: the method.
        rank: inner width r of B A.
        alpha: the update is scaled by alpha / rank.
        targets: a name in `TARGETS`, or a regular expression that a module's whole path matches.
    """

    kind: Literal["lora"] = "lora"
    rank: int = 16
    alpha: float = 16.0
    targets: str = "attention"

    def __post_init__(self) -> None:
        require(self.kind == "lora", "adapter kind", repr(self.kind), "lora", "Choose lora.")
        require(self.rank >= 1, "rank", self.rank, "1 or more", "Use for example 16.")
        require(self.alpha > 0, "alpha", self.alpha, "a number above 0", "Use the rank's own value.")
        try:
            re.compile(self.pattern)
        except re.error as error:
            expected = f"one of {', '.join(TARGETS)}, or a regular expression"
            raise InputError("targets", repr(self.targets), expected,
                             f"The expression cannot be read: {error}.") from error

    @property
    def pattern(self) -> str:
        """The regular expression over module paths."""
        return TARGETS.get(self.targets, self.targets)


class Adapter:
    """A LoRA in every targeted linear layer of one module. Reversible: `eject` restores the very same base
    modules, `inject` puts the very same adapter modules back; a context manager ejects it at the end.

    Args:
        module: the network; its parameters are frozen while the adapter is in.
        config: rank, alpha, targets.
        seed: B starts at zero, A as peft starts it, from a generator of this seed and the layer's path.

    Raises:
        InputError: no layer matches, or the rank is larger than a layer.
    """

    def __init__(self, module: nn.Module, config: AdapterConfig, seed: int):
        self.module, self.config = module, config
        self._base = find_targets(module, config)
        self._layers: dict[str, nn.Module] = {}
        self._thawed: list[nn.Parameter] = []
        attributes = dict(module.__dict__)
        self._freeze()
        try:
            _peft_layers_into(module, self._base, config)
            self._layers = {path: module.get_submodule(path) for path in self._base}
            for path, layer in self._layers.items():
                _initialise(layer, generator_for(seed, f"adapter/{path}", 0))
        except BaseException:
            self.eject()
            raise
        finally:
            for name in module.__dict__.keys() - attributes.keys():  # peft leaves its config on the module
                del module.__dict__[name]

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *_: object) -> None:
        self.eject()

    @property
    def paths(self) -> tuple[str, ...]:
        """Module paths of the adapted layers."""
        return tuple(self._base)

    def inject(self) -> None:
        """Put the adapter in; nothing happens where it is in already."""
        self._freeze()
        for path, layer in self._layers.items():
            _set_submodule(self.module, path, layer)

    def eject(self) -> None:
        """Take the adapter out; nothing happens where it is out already."""
        for path, base in self._base.items():
            _set_submodule(self.module, path, base)
        for parameter in self._thawed:
            parameter.requires_grad_(True)
        self._thawed = []

    def after_step(self) -> None:
        """Nothing."""

    def leave_casts_to_autocast(self) -> None:
        """Keep peft from copying every input to float32 first, which autocast would copy back and keep."""
        for layer in self._layers.values():
            layer.cast_input_dtype_enabled = False  # type: ignore[assignment]

    def parameters(self) -> list[nn.Parameter]:
        """What trains, always in the same order."""
        return [parameter for _, parameter in self._named_parameters()]

    def state_dict(self) -> dict[str, Tensor]:
        """The adapter's own tensors under `<path>.lora_A.weight` and `<path>.lora_B.weight`."""
        return {name: parameter.detach().clone() for name, parameter in self._named_parameters()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Set every tensor that `state_dict` gives.

        Raises:
            InputError: names or shapes are another adapter's.
        """
        own = dict(self._named_parameters())
        fits = own.keys() == tensors.keys() and all(own[name].shape == tensors[name].shape for name in own)
        require(fits, "adapter", "tensors of other layers or ranks",
                f"the {len(own)} tensors of this adapter", "Load what the same model and rank saved.")
        for name, parameter in own.items():
            parameter.copy_(tensors[name])

    def export(self, keys: Mapping[str, str]) -> dict[str, Tensor]:
        """Tensors under the names that other programs read.

        Args:
            keys: for each module path the stem of its keys.
        """
        tensors = {}
        for path, layer in self._layers.items():
            down, up = _matrices(layer)
            tensors[f"{keys[path]}.lora_down.weight"] = down.detach().clone().cpu()
            tensors[f"{keys[path]}.lora_up.weight"] = up.detach().clone().cpu()
            tensors[f"{keys[path]}.alpha"] = torch.tensor(float(self.config.alpha))
        return tensors

    def _named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for path, layer in self._layers.items():
            for name, parameter in zip(("lora_A", "lora_B"), _matrices(layer), strict=True):
                yield f"{path}.{name}.weight", parameter

    def _freeze(self) -> None:
        own = set(self.parameters())
        thawed = [parameter for parameter in self.module.parameters()
                  if parameter.requires_grad and parameter not in own]
        for parameter in thawed:
            parameter.requires_grad_(False)
        self._thawed += thawed


def make_adapters(owners: Mapping[str, Denoiser | TextEncoder], config: AdapterConfig,
                  seed: int) -> dict[str, Adapter]:
    """An adapter in each owner's module, or none at all where one of them cannot be made.

    Raises:
        InputError: a layer has no name in adapter files, or as for `Adapter`.
    """
    adapters: dict[str, Adapter] = {}
    try:
        for name, owner in owners.items():
            adapters[name] = Adapter(owner.module, config, seed)
            missing = [path for path in adapters[name].paths if path not in owner.adapter_keys]
            require(not missing, "targets", f"layer {missing[:1]}, which has no name in adapter files",
                    "layers that other programs know", "Use attention.")
    except BaseException:
        for adapter in adapters.values():
            adapter.eject()
        raise
    return adapters


def find_targets(module: nn.Module, config: AdapterConfig) -> dict[str, nn.Linear]:
    """The linear layers whose path matches.

    Raises:
        InputError: there is none, or one is smaller than the rank.
    """
    pattern = re.compile(config.pattern)
    layers = {path: layer for path, layer in module.named_modules()
              if isinstance(layer, nn.Linear) and pattern.fullmatch(path)}
    got = f"{config.targets!r}, which matches no linear layer of {type(module).__name__}"
    expected = f"one of {', '.join(TARGETS)}, or a regular expression over module paths"
    require(bool(layers), "targets", got, expected, "Use attention.")
    for path, layer in layers.items():
        limit = min(layer.in_features, layer.out_features)
        expected = f"at most {limit}, the smaller side of layer {path}"
        require(config.rank <= limit, "rank", config.rank, expected, f"Use {limit}, or other targets.")
    return layers


def _peft_layers_into(module: nn.Module, base: Mapping[str, nn.Linear], config: AdapterConfig) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, which ComfyUI's start would wait

    exact = "|".join(re.escape(path) for path in base)
    lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=exact)
    with torch.random.fork_rng(devices=[]):  # peft draws its own start; `_initialise` replaces it
        inject_adapter_in_model(lora, module, adapter_name=_NAME)


@torch.no_grad()
def _initialise(layer: nn.Module, generator: torch.Generator) -> None:
    down, up = _matrices(layer)
    for parameter in (down, up):
        # fp16 and fp8 networks give adapters of their own dtype: NaN within a few steps, or no kernel at all.
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    start = torch.empty(down.shape)
    nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
    down.copy_(start)
    up.zero_()


def _matrices(layer: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """A (rank, in) and B (out, rank) of one peft layer."""
    return layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight  # type: ignore[index, union-attr]


def _set_submodule(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    root.get_submodule(parent)._modules[name] = module
