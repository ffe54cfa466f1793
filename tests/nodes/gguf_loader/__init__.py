"""Custom node of the tests alone: loads a diffusion model from a GGUF file, with the habits of packs that people use.

Their code is not here; what of it a trainer meets is:

- Every tensor of the file is of a class of its own, also those that are not packed. Its shape is the one that it stands
  for, and what is cloned or detached of it is itself.
- A layer's state dict tells the memory that it needs: tensors without content, among them names that no weight has.
- A LoRA on a packed weight stays beside it, and is added each time that the weight is unpacked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora
import comfy.ops
import comfy.sd
import comfy.utils
import folder_paths
import gguf
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.v0_0_2 import ComfyExtension, io
from torch import Tensor, nn
from torch.nn import functional

WHOLE = (None, gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
"""Kinds that torch computes with as they are."""


class PackedTensor(Tensor):
    """The bytes of a tensor, which say of what kind they are and for which shape they stand."""

    kind: Any
    whole_shape: torch.Size
    patches: list[tuple[list[Any], str]]

    @staticmethod
    def of(data: Tensor, kind: Any, shape: torch.Size) -> PackedTensor:
        tensor = data.as_subclass(PackedTensor)
        tensor.kind, tensor.whole_shape, tensor.patches = kind, shape, []
        return tensor

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return getattr(self, "whole_shape", super().shape)

    def to(self, *args: Any, **named: Any) -> PackedTensor:
        moved = PackedTensor.of(super().to(*args, **named), getattr(self, "kind", None), self.shape)
        moved.patches = list(getattr(self, "patches", []))
        return moved

    def clone(self, *_: Any, **__: Any) -> PackedTensor:
        return self

    def detach(self) -> PackedTensor:
        return self


def is_packed(tensor: Tensor | None) -> bool:
    """Whether torch cannot compute with a tensor as it is."""
    return getattr(tensor, "kind", None) not in WHOLE


def unpacked(tensor: PackedTensor, like: Tensor) -> Tensor:
    """The weight with its patches, of the type and on the device of what it is multiplied by."""
    if not is_packed(tensor):
        return tensor.to(like.device).as_subclass(Tensor).to(like.dtype)
    data = gguf.dequantize(tensor.cpu().as_subclass(Tensor).numpy(), tensor.kind)
    weight = torch.from_numpy(data).reshape(tensor.whole_shape).to(like)
    for patches, name in tensor.patches:
        weight = comfy.lora.calculate_weight(patches, weight, name)
    return weight


class PackedOperations(comfy.ops.manual_cast):
    """Linear layers that unpack their weight when they multiply."""

    class Linear(comfy.ops.manual_cast.Linear):
        def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None,
                     dtype: Any = None):
            nn.Module.__init__(self)
            self.in_features, self.out_features = in_features, out_features
            self.weight: Any = None
            self.bias: Any = None

        def _load_from_state_dict(self, state_dict: dict, prefix: str, *others: Any) -> None:
            for name in ("weight", "bias"):
                if f"{prefix}{name}" in state_dict:
                    setattr(self, name, nn.Parameter(state_dict[f"{prefix}{name}"], requires_grad=False))

        def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
            if not is_packed(self.weight):
                super()._save_to_state_dict(destination, prefix, keep_vars)
                return
            for name in ("weight", "bias"):
                own = getattr(self, name)
                if own is not None:
                    destination[f"{prefix}{name}"] = torch.zeros(own.size(), dtype=own.dtype, device="meta")
            destination[f"{prefix}temp.weight"] = torch.empty(self.weight.shape, dtype=torch.float16, device="meta")

        def forward_comfy_cast_weights(self, inputs: Tensor) -> Tensor:
            if not (is_packed(self.weight) or is_packed(self.bias)):
                found = super().forward_comfy_cast_weights(inputs)
                return found.as_subclass(Tensor) if isinstance(found, PackedTensor) else found
            bias = None if self.bias is None else unpacked(self.bias, inputs)
            return functional.linear(inputs, unpacked(self.weight, inputs), bias)


class PackedPatcher(ModelPatcher):
    """Leaves LoRAs beside packed weights."""

    def patch_weight_to_device(self, key: str, device_to: Any = None, inplace_update: bool = False,
                               **others: Any) -> None:
        weight = comfy.utils.get_attr(self.model, key)
        if key not in self.patches or not is_packed(weight):
            super().patch_weight_to_device(key, device_to, inplace_update, **others)
            return
        moved = weight.to(device_to) if device_to is not None else weight.to(weight.device)
        moved.patches = [(self.patches[key], key)]
        comfy.utils.set_attr_param(self.model, key, moved)

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        for weight in self.model.parameters() if unpatch_weights else ():
            if is_packed(weight):
                weight.patches = []
        super().unpatch_model(device_to, unpatch_weights)

    def load(self, *args: Any, force_patch_weights: bool = False, **others: Any) -> None:
        super().load(*args, force_patch_weights=True, **others)


def load_gguf(path: Path) -> PackedPatcher:
    """A MODEL of a GGUF file, whose packed weights stay packed. Bytes are handed on as they are: what a file says of
    its own sizes (`shrunk`)."""
    weights: dict[str, Tensor] = {}
    for tensor in gguf.GGUFReader(str(path)).tensors:
        data, shape = torch.from_numpy(tensor.data.copy()), torch.Size(reversed(tensor.shape.tolist()))
        if tensor.tensor_type == gguf.GGMLQuantizationType.I8:
            weights[tensor.name] = data.view(torch.uint8)
        else:
            whole = data.reshape(shape) if tensor.tensor_type in WHOLE else data
            weights[tensor.name] = PackedTensor.of(whole, tensor.tensor_type, shape)
    model = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"custom_operations": PackedOperations})
    model.__class__ = PackedPatcher  # as are its clones
    return model


class LoadGGUF(io.ComfyNode):
    """MODEL of a GGUF file among the diffusion models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="TestLoadGGUF", category="tests", inputs=[io.String.Input("file")],
                         outputs=[io.Model.Output()])

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_gguf(Path(folder_paths.models_dir) / "diffusion_models" / file))


class Extension(ComfyExtension):
    """That node."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadGGUF]


async def comfy_entrypoint() -> Extension:
    """ComfyUI's way in."""
    return Extension()
