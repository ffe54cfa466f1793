"""The raw prediction of a loaded model's network, through everything that its family does around it.

ComfyUI's `apply_model` scales the latents, tells the network the time and estimates the clean latents from what it puts
out. Families override it, so it is called and not imitated; for training its first and last part are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_sampling
from torch import Tensor, nn

from .gradients import training_dtype


class RawSampling(nn.Module):
    """Stands for a `model_sampling`: what goes in and what comes out is left as it is.

    Args:
        stock: what it stands for.
        timesteps: what the network is told at each level, (T,).
    """

    def __init__(self, stock: nn.Module, timesteps: Tensor):
        super().__init__()
        self.__dict__["stock"] = stock  # no part of this module
        self.timesteps = timesteps

    def calculate_input(self, index: Tensor, latents: Tensor) -> Tensor:
        return latents

    def timestep(self, index: Tensor) -> Tensor:
        return self.timesteps.to(index.device)[index]

    def calculate_denoised(self, index: Tensor, output: Tensor, latents: Tensor) -> Tensor:
        """EDM's networks put out -v."""
        return -output if isinstance(self.stock, comfy.model_sampling.EDM) else output

    def __getattr__(self, name: str) -> Any:
        """All else, such as sigma_data, is the stock one's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["stock"], name)


@contextmanager
def raw_prediction(model: Any, timesteps: Tensor) -> Iterator[None]:
    """Within the context `apply_model(noisy, index, ...)` gives the raw prediction at levels of the schedule, computed
    in the dtype of training; nothing that the network remembers from call to call is used."""
    stock, own, dtype = model.model_sampling, model.__dict__.get("get_dtype_inference"), training_dtype(model)
    model.model_sampling = RawSampling(stock, timesteps)
    model.get_dtype_inference = lambda: dtype
    forget = getattr(model.diffusion_model, "clear_kv_cache", lambda: None)
    forget()
    try:
        yield
    finally:
        forget()
        model.model_sampling = stock
        del model.get_dtype_inference
        if own is not None:
            model.get_dtype_inference = own


def predict(model: Any, noisy: Tensor, index: Tensor, timesteps: Tensor, options: dict[str, Any],
            conditions: dict[str, Any]) -> Tensor:
    """The network's output, float32, for latents of the model's own number of dimensions."""
    with raw_prediction(model, timesteps):
        output: Tensor = model.apply_model(noisy, index, transformer_options=options, **conditions)
    return output
