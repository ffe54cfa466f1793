"""A small Flux in each of the ways in which a network is stored, and the same weights in float32.

Files are quantised by ComfyUI's own layouts and loaded by its own loader; a GGUF file is written with the gguf package
and read by `gguf_loader`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import comfy.sd
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from torch import Tensor

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.networks import build_model
from comfyui_personalize.benchmarks.every_family.rig import Rig

CASE = CASES["flux"]


class Format(NamedTuple):
    """One of ComfyUI's ways to store a layer, what its layout is told when it quantises, and a file of the layer."""

    name: str
    settings: dict[str, Any] = {}
    told: dict[str, Any] = {}


FP8, FP8_RANGE, NVFP4, MXFP8 = map(Format, ("float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8"))
INT8, INT8_ROWS = Format("int8_tensorwise"), Format("int8_tensorwise", {"per_channel": True})
INT8_ROTATED = Format("int8_tensorwise", {"per_channel": True, "convrot": True}, {"convrot": True})
INT4_ROTATED = Format("convrot_w4a4")
STORED = {
    "scaled fp8": dict.fromkeys(("attn", "mlp", "linear"), FP8),
    "scaled fp8 (e5m2)": dict.fromkeys(("attn", "mlp", "linear"), FP8_RANGE),
    "int8": dict.fromkeys(("attn", "mlp", "linear"), INT8),
    "int8 by rows": dict.fromkeys(("attn", "mlp", "linear"), INT8_ROWS),
    "int8, rotated": dict.fromkeys(("attn", "mlp", "linear"), INT8_ROTATED),
    "int4, rotated": dict.fromkeys(("attn", "mlp", "linear"), INT4_ROTATED),
    "mixed precision": {"attn.qkv": FP8, "mlp": INT8, "linear": NVFP4},
    "nvfp4": dict.fromkeys(("attn", "mlp", "linear"), NVFP4),
    "mxfp8": dict.fromkeys(("attn", "mlp", "linear"), MXFP8),
}
"""For each kind of file which layers of blocks are stored how; the first part of a name that is found counts."""


def published() -> dict[str, Tensor]:
    """The weights of the small Flux, float32, by the names of Flux' files."""
    weights = build_model(CASE).model.diffusion_model.state_dict()
    return {name.replace("_norm.weight", "_norm.scale"): value for name, value in weights.items()}


def quantised(formats: dict[str, Format]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A file's tensors, and the float32 weights that they stand for."""
    return quantise(published(), formats)


def quantise(weights: dict[str, Tensor], formats: dict[str, Format]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a network, or of a checkpoint, as a file has them, and what they stand for."""
    file, whole = {}, {}
    for name, value in weights.items():
        stem, found = name.removesuffix("weight"), None
        if "_blocks" in name and name.endswith(".weight") and value.ndim == 2:
            found = next((kind for part, kind in formats.items() if part in name), None)
        whole[name], file[name] = value, value
        if found is not None:
            layout = QUANT_ALGOS[found.name]["comfy_tensor_layout"]
            packed = QuantizedTensor.from_float(value, layout, scale="recalculate", **found.settings)
            file |= {key: part.contiguous() for key, part in packed.state_dict(name).items()}
            file[f"{stem}comfy_quant"] = _bytes({"format": found.name, **found.told})
            whole[name] = packed.dequantize().float()
    return file, whole


def _bytes(told: dict[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)


def scaled_as_before(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The older layout of scaled fp8 files: a marker, and scales by another name."""
    file, whole = {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)}, dict(weights)
    for name, value in weights.items():
        file[name] = value
        if "_blocks" in name and name.endswith(".weight") and value.ndim == 2:
            scale = value.abs().max() / 448
            file[name], file[f"{name.removesuffix('weight')}scale_weight"] = (value / scale).to(
                torch.float8_e4m3fn), scale
            whole[name] = file[name].float() * scale
    return file, whole


def load(weights: dict[str, Tensor], **options: Any) -> Any:
    """A MODEL by ComfyUI's own loader of diffusion models."""
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(dict(weights), model_options=options)


def stored_as(kind: str, folder: Path | None = None) -> tuple[Rig, Rig]:
    """The small Flux as it is stored in a kind of file, and in float32 with the same weights."""
    with torch.inference_mode():
        if kind == "weight_dtype fp8":
            whole = {name: value.to(torch.float8_e4m3fn).float() for name, value in published().items()}
            return Rig(CASE, load(whole, dtype=torch.float8_e4m3fn)), Rig(CASE, load(whole))
        if kind == "GGUF":
            from gguf_loader import load_gguf

            assert folder is not None
            whole = gguf_file(folder / "flux.gguf", published())
            return Rig(CASE, load_gguf(folder / "flux.gguf")), Rig(CASE, load(whole))
        file, whole = (scaled_as_before(published()) if kind == "scaled fp8 (older files)" else
                       quantised(STORED[kind]))
    return Rig(CASE, load(file)), Rig(CASE, load(whole))


def gguf_file(path: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write a real GGUF file, Q8_0 and Q5_0 in its blocks, F16 in small layers; gives the float32 weights that it
    stands for. Bytes stay bytes."""
    import gguf

    kinds, writer, whole = gguf.GGMLQuantizationType, gguf.GGUFWriter(str(path), "flux"), {}
    for name, value in weights.items():
        if not value.is_floating_point():
            writer.add_tensor(name, value.view(torch.int8).numpy())
            continue
        kind = kinds.F32
        if name.endswith(".weight") and value.ndim == 2:
            in_block = "_blocks" in name and value.shape[1] % 32 == 0
            kind = kinds.F16 if not in_block else kinds.Q8_0 if "attn" in name else kinds.Q5_0
        packed = gguf.quantize(value.float().numpy(), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        whole[name] = torch.from_numpy(gguf.dequantize(packed, kind)).reshape(value.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return whole
