"""Custom node of the families' test server alone: ComfyUI's own loaders take files whose sizes they have no way to see.

Most sizes ComfyUI reads off the weights. The others it takes for those that were published (text encoders, number of
heads, class of a network by its width). A file of `files.py` has beside its weights a tensor `shrunk`, a JSON text as
bytes, that says them; files without it are loaded as ever. Stock classes do all the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from typing import Any
from unittest import mock

import comfy.model_detection
import comfy.sd
import comfy.supported_models
import comfy.text_encoders.qwen_vl
import torch

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
SHRUNK = "shrunk"
AutoencoderKL, AutoencodingEngine = comfy.sd.AutoencoderKL, comfy.sd.AutoencodingEngine
Qwen2VLVisionTransformer = comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer


def told(weights: MutableMapping[str, Any], prefix: str = "") -> dict[str, Any] | None:
    """Take out what a file says of its sizes; None where it says nothing."""
    name = next((name for name in weights if name.startswith(prefix) and name.endswith(SHRUNK)), None)
    return None if name is None else dict(json.loads(bytes(weights.pop(name).tolist())))


def detected_network(stock: Callable[..., Any]) -> Callable[..., Any]:
    """A network: what cannot be read off the weights; its class by name, where ComfyUI knows it by published sizes."""
    def model_config_from_unet(weights: Any, prefix: str, use_base_if_no_match: bool = False,
                               metadata: Any = None) -> Any:
        sizes = told(weights, prefix)
        if sizes is None:
            return stock(weights, prefix, use_base_if_no_match, metadata)
        network = comfy.model_detection.detect_unet_config(weights, prefix, metadata=metadata) | sizes["network"]
        if "class" in sizes:
            return getattr(comfy.supported_models, sizes["class"])(network)
        return comfy.model_detection.model_config_from_unet_config(network, weights, prefix)

    return model_config_from_unet


def detected_encoder(stock: Callable[..., Any]) -> Callable[..., Any]:
    """A text encoder: which one it is, where ComfyUI knows it by its published width."""
    def detect_te_model(weights: Any) -> Any:
        text = weights.get(SHRUNK)
        kind = None if text is None else json.loads(bytes(text.tolist())).get("kind")
        return stock(weights) if kind is None else comfy.sd.TEModel[kind]

    return detect_te_model


def small_clip(stock: Callable[..., None]) -> Callable[..., None]:
    """A CLIP whose encoders have the sizes of their files."""
    def start(self: Any, *args: Any, state_dict: Any = (), model_options: Any = None, **others: Any) -> None:
        parts = state_dict if isinstance(state_dict, list) else [state_dict] if state_dict else []
        sizes = [found for found in map(told, parts) if found is not None]
        model_options = dict(model_options or {})
        for each in sizes:
            model_options |= {f"{name}_model_config": config for name, config in each["encoders"].items()}
        eyes = {key: size for each in sizes for key, size in each.get("vision", {}).items()}
        with mock.patch.object(comfy.text_encoders.qwen_vl, "Qwen2VLVisionTransformer",
                               lambda **published: Qwen2VLVisionTransformer(**published | eyes)):
            stock(self, *args, state_dict=state_dict, model_options=model_options, **others)
        for each in sizes:
            for name, width in each.get("rows", {}).items():
                widen(getattr(self.cond_stage_model, name), width)

    return start


def widen(encoder: Any, width: int) -> None:
    """Pad an encoder's rows with zeros to the width that stock code counts on."""
    forward = encoder.forward

    def padded(tokens: Any) -> tuple[Any, ...]:
        rows, *others = forward(tokens)
        return (torch.nn.functional.pad(rows, (0, width - rows.shape[-1])), *others)

    encoder.forward = padded


def small_vae(stock: Callable[..., None]) -> Callable[..., None]:
    """A VAE whose encoder is as narrow as its decoder, whose width ComfyUI reads off the file."""
    def start(self: Any, sd: Any = None, *args: Any, **others: Any) -> None:
        if not sd or told(sd) is None:
            stock(self, sd, *args, **others)
            return
        with mock.patch.multiple(comfy.sd, AutoencoderKL=narrow_kl, AutoencodingEngine=narrow_engine):
            stock(self, sd, *args, **others)

    return start


def narrow_kl(ddconfig: Any, decoder_ddconfig: Any, **others: Any) -> Any:
    """With quant_conv: SDXL, Flux.2."""
    return AutoencoderKL(ddconfig=decoder_ddconfig, **others)


def narrow_engine(encoder_config: Any, decoder_config: Any, **others: Any) -> Any:
    """Without: SD3, Flux."""
    return AutoencodingEngine(encoder_config=encoder_config | {"params": decoder_config["params"]},
                              decoder_config=decoder_config, **others)


comfy.model_detection.model_config_from_unet = detected_network(comfy.model_detection.model_config_from_unet)
comfy.sd.detect_te_model = detected_encoder(comfy.sd.detect_te_model)
comfy.sd.CLIP.__init__ = small_clip(comfy.sd.CLIP.__init__)
comfy.sd.VAE.__init__ = small_vae(comfy.sd.VAE.__init__)
