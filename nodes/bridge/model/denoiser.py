"""The loaded MODEL as something that can be trained, without a second copy of its weights.

ComfyUI runs nodes in inference mode, so a loaded model's weights are inference tensors, through which no gradient
flows. `trainable` replaces them by normal tensors over the same memory; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.utils
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.text_encoders.t5 import T5LayerNorm
from torch import Tensor, nn

from ....core.errors import InputError, require
from ....core.learning.adapter import is_eight_bit
from ....core.model.contracts import Conditioning
from ....core.model.schedule import NoiseSchedule
from .bypass import injected_adapters

SDXL_DOWNSCALE = 8
"""Pixels per latent of the family that is told the size of its pictures."""


class ComfyDenoiser:
    """`core.conditioning.Denoiser` over a loaded MODEL.

    Args:
        model: the MODEL's patcher, loaded.
        size: width and height of square training images in pixels, for models that are told it (SDXL).
    """

    def __init__(self, model: Any, size: int):
        self.model, self.size = model.model, size
        self.module: nn.Module = self.model.diffusion_model
        self.schedule = schedule_of(model)
        self.adapter_keys = unet_adapter_keys(model)
        self.may_repeat_text = isinstance(self.module, UNetModel)
        self.device: torch.device = model.load_device

    def __call__(self, noisy: Tensor, index: Tensor, conditioning: Conditioning) -> Tensor:
        dtype = training_dtype(self.model)
        noisy = noisy.to(self.device, dtype)
        timestep = self.schedule.timesteps.to(self.device)[index.to(self.device)]
        extra = self._extra_conditions(noisy, conditioning, dtype)
        timestep = self.model.process_timestep(timestep, x=noisy, **extra)
        context = conditioning.context.to(self.device, dtype)
        output = self.module(noisy, timestep, context=context, control=None,
                             transformer_options=training_options(), **extra)
        return output.float()

    def _extra_conditions(self, noisy: Tensor, conditioning: Conditioning, dtype: torch.dtype) -> dict[str, Tensor]:
        """What the model's family adds to the context: pooled text and size ids for SDXL, guidance for Flux."""
        pooled = None if conditioning.pooled is None else conditioning.pooled.to(self.device)
        rows, _, high, wide = noisy.shape
        height, width = (self.size, self.size) if high == wide else (high * SDXL_DOWNSCALE, wide * SDXL_DOWNSCALE)
        conditions = self.model.extra_conds(
            cross_attn=conditioning.context, pooled_output=pooled, width=width, height=height,
            noise=noisy, device=self.device, prompt_type="positive")
        conditions.pop("c_crossattn", None)
        processed = {name: value.process_cond(batch_size=rows, area=None, device=self.device).cond
                     for name, value in conditions.items()}
        return {name: value.to(self.device, dtype if value.is_floating_point() else None)
                if torch.is_tensor(value) else value for name, value in processed.items()}


def training_dtype(model: Any) -> torch.dtype:
    """What a network computes in while it trains (less, under autocast): its own dtype, but never float16, where small
    gradients become zero."""
    dtype: torch.dtype = model.get_dtype_inference()
    return torch.float32 if dtype == torch.float16 else dtype


@contextmanager
def casting_layers(model: Any, always: bool = False) -> Iterator[None]:
    """Within the context the layers of a float16 network cast their weights to what they are given.

    Args:
        model: the loaded MODEL's network.
        always: of any network, for weights that train as float32 copies.
    """
    is_needed = always or training_dtype(model) != model.get_dtype_inference()
    layers = [layer for layer in model.diffusion_model.modules()
              if is_needed and not getattr(layer, "comfy_cast_weights", True)]
    for layer in layers:
        layer.comfy_cast_weights = True
    try:
        yield
    finally:
        for layer in layers:
            layer.comfy_cast_weights = False


def training_options() -> dict[str, Any]:
    """Options of one forward: PyTorch's own attention, whose gradients are exact and which recomputes the same."""
    def attention(_: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return attention_pytorch(*args, **kwargs)

    return {"optimized_attention_override": attention}


def schedule_of(model: Any) -> NoiseSchedule:
    """The MODEL's own noise schedule and prediction, as other nodes may have patched it.

    Raises:
        InputError: for a family whose forward process is none of eps, v and flow.
    """
    sampling = model.get_model_object("model_sampling")
    kind, sigmas = comfy.model_sampling, getattr(sampling, "sigmas", None)
    unsupported = (kind.EDM, kind.X0, kind.IMG_TO_IMG_FLOW)
    if sigmas is not None and not isinstance(sampling, unsupported):
        sigmas = sigmas.detach().clone()
        timesteps = sampling.timestep(sigmas)
        if isinstance(sampling, kind.CONST):
            return NoiseSchedule.rectified_flow(sigmas, timesteps)
        if isinstance(sampling, kind.EPS) and getattr(sampling, "sigma_data", 1.0) == 1.0:
            prediction = "v_prediction" if isinstance(sampling, kind.V_PREDICTION) else "epsilon"
            return NoiseSchedule.variance_preserving(prediction, sigmas, timesteps)  # type: ignore[arg-type]
    names = " / ".join(base.__name__ for base in type(sampling).__bases__)
    raise InputError("model", f"a model with {names} sampling", "a model with eps, v or flow prediction",
                     "Use a Stable Diffusion 1.x / 2.x / XL checkpoint.")


def check_model(model: Any) -> None:
    """Raise `InputError` for a MODEL that cannot be trained, before anything is loaded."""
    schedule_of(model)
    require(not getattr(model.model, "concat_keys", ()), "model", "an inpainting or edit model",
            "a plain text-to-image model", "Connect the base checkpoint; its result also works in inpainting.")
    require(not isinstance(model.model, comfy.model_base.SD_X4Upscaler), "model", "an upscaler",
            "a text-to-image model", "Use PersonalizeSuperResolution for the upscaler.")


def unet_adapter_keys(model: Any) -> Mapping[str, str]:
    """For each module path of the diffusion model the stem of its adapter keys, and for each parameter that is neither
    weight nor bias its own.

    They are those of kohya's files, which stock LoraLoader and diffusers read: UNets have diffusers' names in them,
    other networks their own.
    """
    keys = {path: f"lora_unet_{path.replace('.', '_')}" for path, _ in model.model.diffusion_model.named_modules()}
    for diffusers_name, weight in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items():
        path = weight.removesuffix(".weight")
        if path != weight and path in keys:
            keys[path] = f"lora_unet_{diffusers_name.removesuffix('.weight').replace('.', '_')}"
    return keys | {name: f"diffusion_model.{name}" for name, _ in model.model.diffusion_model.named_parameters()
                   if not name.endswith((".weight", ".bias"))}


@contextmanager
def trainable(*patchers: Any, memory: float = 0) -> Iterator[Callable[[], None]]:
    """Load the models and make gradients flow through them; yields a function that does it again after a preview.

    LoRA patches of the graph stay applied, so training goes on top of them. Weights keep their bits.

    Args:
        patchers: model patchers, as `static_patcher` gives them.
        memory: bytes to leave free beside the weights.
    """
    with torch.inference_mode(False), torch.enable_grad():
        def prepare() -> None:
            # Whole models only: an adapter on one device cannot learn from a weight on another.
            comfy.model_management.load_models_gpu(list(patchers), memory_required=memory, force_full_load=True)
            for patcher in patchers:
                patcher.unpin_all_weights()
                replace_inference_tensors(patcher.model)
                replace_injected_tensors(patcher.model)

        prepare()
        with ExitStack() as stack:
            stack.enter_context(differentiable_kernels())
            for patcher in patchers:
                stack.enter_context(own_norm_inputs(patcher.model))
            yield prepare


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Within the context ComfyUI's networks keep to operations that have a gradient (rotary embeddings)."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


@contextmanager
def own_norm_inputs(module: nn.Module) -> Iterator[None]:
    """Within the context the norms of transformers work on copies of their inputs.

    Blocks of Flux and T5 add to the residual stream in place, over what their norms keep for the backward pass. The
    original is no longer kept then, so that no memory is added. UNets and CLIP's layers need none of this.
    """
    unets = {norm for part in module.modules() if isinstance(part, UNetModel) for norm in part.modules()}
    network = getattr(module, "diffusion_model", nn.Module())
    norms = {norm for norm in network.modules() if isinstance(norm, nn.LayerNorm | nn.RMSNorm)} - unets
    norms |= {norm for norm in module.modules() if isinstance(norm, T5LayerNorm)}
    handles = [norm.register_forward_pre_hook(_copied) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _copied(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not torch.is_grad_enabled():
        return inputs
    return tuple(value.clone() if value.requires_grad else value for value in inputs)


def static_patcher(patcher: Any) -> Any:
    """The patcher itself, or for ComfyUI's dynamic VRAM (NVIDIA) a clone whose weights stay in place.

    Raises:
        InputError: when the dynamic MODEL came from a loader that cannot make such a clone.
    """
    if not patcher.is_dynamic():
        return patcher
    try:
        return patcher.clone(disable_dynamic=True)
    except RuntimeError as reason:
        raise InputError("model", "a model in dynamic VRAM from a loader that cannot reload it", "a trainable model",
                         "Use a stock loader, or start ComfyUI with --disable-dynamic-vram.") from reason


def static_clip(clip: Any) -> Any:
    """The CLIP itself, or for dynamic VRAM a clone whose weights stay in place.

    Raises:
        InputError: as `static_patcher`.
    """
    if not clip.patcher.is_dynamic():
        return clip
    static = clip.clone()
    static.patcher = static_patcher(clip.patcher)
    static.cond_stage_model = static.patcher.model
    return static


def is_quantised(model: Any) -> bool:
    """Whether the MODEL's weights are stored in 8 bits or less, where a merged adapter is rounded away in part."""
    return has_eight_bit_weights(model.model.diffusion_model)


def has_eight_bit_weights(module: nn.Module) -> bool:
    """Whether some of a network's weights are stored in 8 bits or less, or packed."""
    return any(map(is_eight_bit, module.parameters()))


def replace_inference_tensors(module: nn.Module) -> None:
    """Replace every inference parameter and buffer by a normal tensor over the same memory."""
    done: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_inference():
                key = id(parameter)
                if key not in done:
                    done[key] = nn.Parameter(normal_tensor(parameter), requires_grad=False)
                part._parameters[name] = done[key]
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_inference():
                part._buffers[name] = normal_tensor(buffer)


def replace_injected_tensors(module: nn.Module) -> None:
    """Replace the inference tensors of the adapters that wrap the layers of a loaded module: gradients flow through
    an adapter on their way to the layers before it."""
    for adapter in injected_adapters(module):
        if isinstance(adapter, nn.Module):
            replace_inference_tensors(adapter)
        elif isinstance(weights := getattr(adapter, "weights", None), tuple | list):
            adapter.weights = type(weights)(normal_tensor(weight) if torch.is_tensor(weight) and weight.is_inference()
                                            else weight for weight in weights)


def normal_tensor(tensor: Tensor) -> Tensor:
    """The same values outside inference mode: over the same memory where DLPack can, otherwise a copy.

    Nothing in torch turns an inference tensor into a normal one, but a tensor that comes in from outside is normal.
    """
    is_plain = type(tensor.data) is Tensor and tensor.device.type in ("cpu", "cuda")
    return torch.from_dlpack(tensor.detach()) if is_plain else tensor.detach().clone()


def training_memory(model: Any, rows: int, size: int, channels: int) -> float:
    """Bytes that ComfyUI should leave free: its own estimate of a forward, three times over for the backward pass."""
    downscale = 8
    return 3.0 * model.memory_required([rows, channels, size // downscale, size // downscale])


def free_memory(model: Any) -> int:
    """Bytes free on the device that the MODEL runs on."""
    return int(comfy.model_management.get_free_memory(model.load_device))
