"""The forward process z_t = alpha_t z + sigma_t eps, and what the network predicts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "flow"]


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The loaded model's own schedule over T discrete noise levels, from clean to noisy.

    Attributes:
        prediction: what the network puts out: noise, velocity v = alpha eps - sigma z
            (Salimans & Ho 2022, arXiv:2202.00512), or the flow velocity eps - z.
        alphas: signal levels alpha_t, shape (T,).
        sigmas: noise levels sigma_t, shape (T,).
        timesteps: what the network is told at each level, shape (T,).
        noise_scale: standard deviation of the noise; 1 but for networks in pixel space.
        data_std: what the latents are divided by (sigma_data of EDM, Karras et al. 2022, arXiv:2206.00364).
    """

    prediction: Prediction
    alphas: Tensor
    sigmas: Tensor
    timesteps: Tensor
    noise_scale: float = 1.0
    data_std: float = 1.0

    @classmethod
    def variance_preserving(cls, prediction: Prediction, k_sigmas: Tensor, timesteps: Tensor,
                            data_std: float = 1.0) -> NoiseSchedule:
        """From the ratios sigma_t / alpha_t that k-diffusion samplers use (alpha² + sigma² = 1), for latents of that
        standard deviation."""
        k_sigmas = k_sigmas / data_std
        alphas = (1 + k_sigmas.double() ** 2).rsqrt()
        return cls(
            prediction=prediction,
            alphas=alphas.float(),
            sigmas=(k_sigmas.double() * alphas).float(),
            timesteps=timesteps.float(),
            data_std=data_std,
        )

    @classmethod
    def rectified_flow(cls, sigmas: Tensor, timesteps: Tensor, noise_scale: float = 1.0) -> NoiseSchedule:
        """z_t = (1 - sigma) z + sigma eps, for flow-matching models."""
        return cls(prediction="flow", alphas=1 - sigmas.float(), sigmas=sigmas.float(), timesteps=timesteps.float(),
                   noise_scale=noise_scale)

    def __len__(self) -> int:
        return len(self.sigmas)

    def add_noise(self, latents: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """z_t for latents and noise (N, C, h, w) at levels `index` (N,)."""
        latents, noise = latents / self.data_std, noise * self.noise_scale
        return _rows(self.alphas, index, latents) * latents + _rows(self.sigmas, index, latents) * noise

    def target(self, latents: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """What a perfect network puts out for z_t, (N, C, h, w)."""
        latents, noise = latents / self.data_std, noise * self.noise_scale
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "flow":
            return noise - latents
        return _rows(self.alphas, index, latents) * noise - _rows(self.sigmas, index, latents) * latents


def _rows(table: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Entries `index` of a table (T,), shaped to multiply rows (N, C, h, w)."""
    return table.to(like)[index.to(like.device)].view(-1, *[1] * (like.ndim - 1))
