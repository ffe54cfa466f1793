"""A whole guided dual trajectory against METHODS 2 written plainly: DDIM in epsilon space, DBIM pixel by
pixel.

The transcription shares nothing with the implementation but the network's weights, the texts and the initial
noise: no ComfyUI sampler, no attention patches, no x0 space, its own noise schedule. The published sampler, DDIM with
eta = 1, is ComfyUI's euler_ancestral: the same step in other variables.
"""

from __future__ import annotations

import math

import comfy.sample
import pytest
import torch
from dci_rig import PROMPT, SETTINGS, apply_dci, assert_close, empty_latent, encode, ksample
from tiny_model import tiny_models

from comfyui_personalize.core.dci.latents import auxiliary_noise
from comfyui_personalize.nodes.bridge.dci.branch_noise import auxiliary_seed

STEPS, CFG, SEED, WINDOW = 10, 6.0, 11, 0.3
AUXILIARY_PROMPT = "a photo of a cat in times square"
# a photo of a sks dog in times square: BOS is column 0.
CONCEPT_CONTENT, CONCEPT_COUNTED = range(1, 10), (5, 6)
AUXILIARY_CONTENT, AUXILIARY_COUNTED = range(1, 9), (1, 2, 3, 4, 6, 7, 8)


def evidence(query, key, content, counted):
    """m of DBIM 1-3 at one pixel and head: query (d,), key (T, d)."""
    attention = torch.softmax(key @ query / math.sqrt(len(query)), 0)
    sharp = torch.softmax(torch.stack([10 * attention[k] for k in content]), 0)
    return sum(value for k, value in zip(content, sharp, strict=True) if k in counted)


def mixed_head(query, key, value, omega):
    """DBIM 1-6 for one head of a pair of branches: (2, N, d), (2, T, d), (2, T, d) to (2, N, d)."""
    plain = [torch.softmax(query[row] @ key[row].T / math.sqrt(query.shape[-1]), -1) @ value[row]
             for row in (0, 1)]
    m_c = torch.stack([evidence(q, key[0], CONCEPT_CONTENT, CONCEPT_COUNTED) for q in query[0]])
    m_a = torch.stack([evidence(q, key[1], AUXILIARY_CONTENT, AUXILIARY_COUNTED) for q in query[1]])
    logits = torch.stack([500 * torch.softmax(10 * m_c, 0), omega * 500 * torch.softmax(10 * m_a, 0)])
    weight = torch.softmax(logits, 0)
    return torch.stack([weight[0][:, None] * plain[0] + weight[1][:, None] * plain[1], plain[1]])


def plain_cross_attention(layer, omega):
    """A forward for a cross-attention layer; a pair of rows is mixed when `omega` is given."""
    def forward(hidden, context=None, value=None, mask=None, transformer_options=None):
        query, key, values = layer.to_q(hidden), layer.to_k(context), layer.to_v(context)
        heads = []
        for q, k, v in zip(*(t.split(layer.dim_head, dim=-1) for t in (query, key, values)), strict=True):
            if omega is not None:
                heads.append(mixed_head(q, k, v, omega))
            else:
                heads.append(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(layer.dim_head), -1) @ v)
        return layer.to_out(torch.cat(heads, -1))
    return forward


class PlainNetwork:
    """eps(z_t, t, context), with the network's own weights and plain cross-attention."""

    def __init__(self, unet):
        self.unet = unet
        self.layers = [module.attn2 for module in unet.modules() if hasattr(module, "attn2")]

    def __call__(self, latents, timestep, contexts, omega=None):
        try:
            for layer in self.layers:
                layer.forward = plain_cross_attention(layer, omega)
            timesteps = torch.full((latents.shape[0],), float(timestep))
            return self.unet(latents, timesteps, context=contexts)
        finally:
            for layer in self.layers:
                del layer.forward


def ddim_step(latents, epsilon, now, then, eta, generator):
    """DDIM from cumulative signal `now` to `then` (Song et al., 2021, eqs. 12 and 16)."""
    clean = (latents - math.sqrt(1 - now) * epsilon) / math.sqrt(now)
    if then == 1.0:
        return clean
    spread = eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
    fresh = torch.randn(latents.shape, generator=generator) if eta else 0.0
    return math.sqrt(then) * clean + math.sqrt(1 - then - spread**2) * epsilon + spread * fresh


def transcribed_run(network, prompt, auxiliary_prompt, empty, noise, omega, shared, eta):
    """METHODS 2, DCI: two latents, one model, `WINDOW` of the schedule, then the concept branch alone."""
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, 0).tolist()
    timesteps = [999 - step * (1000 // STEPS) for step in range(STEPS)]
    concept, auxiliary = noise, auxiliary_noise(noise, SEED)
    in_window = 0
    draws = [torch.Generator().manual_seed(seed + 1) for seed in (SEED, auxiliary_seed(SEED))]  # + 1 as ComfyUI does
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        then = 1.0 if following is None else signal[following]
        eps_u = network(concept, t, empty)
        if t / 999 > 1 - WINDOW:
            in_window += 1
            eps_c, eps_a = network(torch.cat([concept, auxiliary]), t, torch.cat([prompt, auxiliary_prompt]),
                                   omega).split(1)
            eps_u_a = eps_u if shared else network(auxiliary, t, empty)
            auxiliary = ddim_step(auxiliary, eps_u_a + CFG * (eps_a - eps_u_a), signal[t], then, eta, draws[1])
        else:
            eps_c = network(concept, t, prompt)
        concept = ddim_step(concept, eps_u + CFG * (eps_c - eps_u), signal[t], then, eta, draws[0])
    return concept / 0.18215, in_window


@pytest.mark.parametrize(("omega", "shared", "eta"), [(1.0, True, 1), (0.8, True, 0), (1.0, False, 0)])
def test_guided_dual_trajectory_equals_the_plain_transcription(omega, shared, eta):
    model, clip, _ = tiny_models()
    patched, positive = apply_dci(model, clip, omega=omega, shared_guidance=shared)
    negative = encode(clip, "")
    settings = {"steps": STEPS, "cfg": CFG, "seed": SEED, "scheduler": "simple",
                "sampler_name": "euler_ancestral" if eta else "ddim"}
    actual = ksample(patched, positive, negative, **settings)
    plain = ksample(model, positive, negative, **settings)
    with torch.inference_mode():
        contexts = [encode(clip, text)[0][0] for text in (PROMPT, AUXILIARY_PROMPT, "")]
        noise = comfy.sample.prepare_noise(empty_latent()["samples"], SEED)
        network = PlainNetwork(model.model.diffusion_model)
        expected, in_window = transcribed_run(network, *contexts, noise, omega, shared, eta)
    assert in_window == 3 and SETTINGS["window"] == WINDOW
    assert_close(actual, expected, 1e-4)
    assert (plain - expected).abs().max() > 0.05 * expected.std()
