"""The smallest honest training loop, which every figure of training_step.py is a ratio to: diffusers' UNet, peft's
LoRA of rank 16 on to_q, to_k, to_v and to_out, cached latents and texts, one forward of B rows, MSE, backward, AdamW.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from torch.nn import functional

RANK, LATENT, TOKENS, CONTEXT = 16, 16, 77, 768


def small_unet() -> UNet2DConditionModel:
    """107 M random weights: Stable Diffusion 1.5's structure, channels (320, 640), one block per level."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=LATENT, block_out_channels=(320, 640), layers_per_block=1, cross_attention_dim=CONTEXT,
        attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))


def train(unet: UNet2DConditionModel, batch: int, steps: int) -> None:
    """Steps of `batch` rows, each at its own noise and timestep."""
    unet.requires_grad_(False)
    lora = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    inject_adapter_in_model(lora, unet)
    optimizer = torch.optim.AdamW([value for value in unet.parameters() if value.requires_grad], lr=1e-4)
    alphas = torch.linspace(0.999, 0.07, 1000)
    latents, context = torch.randn(batch, 4, LATENT, LATENT), torch.randn(batch, TOKENS, CONTEXT)
    for _ in range(steps):
        noise, timestep = torch.randn_like(latents), torch.randint(1000, (batch,))
        alpha = alphas[timestep].view(-1, 1, 1, 1)
        noisy = alpha * latents + (1 - alpha ** 2).sqrt() * noise
        functional.mse_loss(unet(noisy, timestep, context).sample, noise).backward()
        optimizer.step()
        optimizer.zero_grad()
