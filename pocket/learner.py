"""One network being trained: weights, running average, optimiser, and a state so small that it fits one file.

The state holds weights and average in float16, one second moment per output channel, and no first moment. So that a
resumed run is the run that was not cut off, saving rounds the *running* values to what the file holds (`settle`): the
loss of precision is one rounding every few minutes, and the first moment is back after some ten steps.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor, nn

BETAS: Final = (0.9, 0.99)
EPSILON: Final = 1e-8
CLIP: Final = 1.0


class Learner:
    """AdamW with gradient clipping, and an exponential moving average of the weights.

    Args:
        network: whose parameters that require a gradient train; its buffers are kept in the state too.
        peak: learning rate after `warm_up` steps.
        decay: of the average, after a start that forgets faster.
    """

    def __init__(self, network: nn.Module, *, peak: float, warm_up: int = 200, decay: float = 0.999) -> None:
        self.network, self.peak, self.warm_up, self.decay = network, peak, warm_up, decay
        self.names, self.parameters = zip(*((n, p) for n, p in network.named_parameters() if p.requires_grad),
                                          strict=True)
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=peak, betas=BETAS, eps=EPSILON, weight_decay=0.0,
                                           fused=True)
        self.step = 0
        self.warmed_from = 0
        """The step at which the optimiser knew nothing yet."""

    def learn(self, loss: Tensor, cooled: float = 0.0) -> Tensor:
        """One optimiser step; `cooled` from 0 to 1 lowers the rate along a cosine to 3 %. Returns the gradient norm."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, CLIP, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.peak, self.step - self.warmed_from, self.warm_up, cooled)
        self.optimizer.step()
        self.step += 1
        weight = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], weight)
        return norm

    @torch.no_grad()
    def settle(self) -> None:
        """Rounds everything to what the state keeps."""
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(parameter.half())
            average.copy_(average.half())
            if kept := self.optimizer.state.get(parameter):
                kept["exp_avg"].zero_()
                kept["exp_avg_sq"].copy_(row_means(kept["exp_avg_sq"]))

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs; call `settle` first."""
        moments = {name: kept["exp_avg_sq"].reshape(len(p), -1)[:, 0].cpu().clone() for name, p in self._named()
                   if (kept := self.optimizer.state.get(p))}  # rows are constant; their mean could round otherwise
        return {"weights": {name: p.detach().half().cpu().contiguous() for name, p in self._named()},
                "average": {name: a.half().cpu().contiguous()
                            for name, a in zip(self.names, self.average, strict=True)},
                "buffers": {name: b.detach().cpu() for name, b in self.network.named_buffers()},
                "moments": moments, "step": self.step, "warmed_from": self.warmed_from}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave."""
        self.step, self.warmed_from = state["step"], state.get("warmed_from", 0)
        for (name, parameter), average in zip(self._named(), self.average, strict=True):
            parameter.copy_(state["weights"][name])
            average.copy_(state["average"][name])
            if name in state["moments"]:
                rows = state["moments"][name].view(-1, *[1] * (parameter.ndim - 1))
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step - self.warmed_from), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.empty_like(parameter).copy_(rows.to(parameter.device))}
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])

    @torch.no_grad()
    def swap_average(self) -> None:
        """Exchanges weights and average: call it before and after looking at the averaged network."""
        for parameter, average in zip(self.parameters, self.average, strict=True):
            held = parameter.clone()
            parameter.copy_(average)
            average.copy_(held)

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return list(zip(self.names, self.parameters, strict=True))


def row_means(moments: Tensor) -> Tensor:
    """The mean over everything but the first axis, kept as axes of length one; of constant rows exactly their value."""
    if moments.ndim < 2:
        return moments
    return moments.mean(dim=tuple(range(1, moments.ndim)), keepdim=True, dtype=torch.float64).to(moments.dtype)


def learning_rate(peak: float, step: int, warm_up: int, cooled: float) -> float:
    """Linear warm-up, flat, and a cosine to 3 % as `cooled` goes from 0 to 1."""
    return peak * min(1.0, (step + 1) / warm_up) * (0.03 + 0.485 * (1 + math.cos(math.pi * min(1.0, cooled))))


def load_average(network: nn.Module, state: dict[str, Any]) -> nn.Module:
    """Puts a state's averaged weights and its buffers into a network, for use: evaluating, without gradients."""
    network.load_state_dict({**{k: v.float() for k, v in state["average"].items()}, **state["buffers"]},
                            strict=False)
    return network.eval().requires_grad_(False)
