"""A diffusers UNet of 32 and 64 channels, a stub text encoder, and photos of noise: the trainer's rig."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn

from comfyui_personalize.core.data.examples import Example, TrainingData, generator_for
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.learning.token_vectors import reads
from comfyui_personalize.core.model.contracts import Conditioning, concat_rows
from comfyui_personalize.core.model.schedule import NoiseSchedule
from comfyui_personalize.core.objectives.base import Outcome, prepared_data
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.trainer import Trainer

CONTEXT, TOKENS = 16, 7
PROMPTS = {"caption": "a photo of a sks dog", "object_caption": "a sks dog"}


def tiny_unet() -> UNet2DConditionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=CONTEXT,
            attention_head_dim=4,
        ).eval()


def schedule(prediction="epsilon") -> NoiseSchedule:
    cumulative = DDPMScheduler(beta_schedule="scaled_linear").alphas_cumprod.double()
    sigmas = ((1 - cumulative) / cumulative).sqrt()
    if prediction == "flow":
        return NoiseSchedule.rectified_flow(torch.linspace(0.001, 1, 1000), torch.linspace(1, 1000, 1000))
    return NoiseSchedule.variance_preserving(prediction, sigmas, torch.arange(1000))


class TinyDenoiser:
    """Counts its calls and rows."""

    device = torch.device("cpu")

    def __init__(self, prediction="epsilon"):
        self.module = tiny_unet()
        self.schedule = schedule(prediction)
        self.adapter_keys: Mapping[str, str] = {
            path: "lora_unet_" + path.replace(".", "_") for path, _ in self.module.named_modules()
        }
        self.rows: list[int] = []

    def __call__(self, noisy, index, rows):
        self.rows.append(len(noisy))
        return self.module(noisy, self.schedule.timesteps[index], concat_rows(rows)[0]).sample


class Attention(nn.Module):
    """The one layer of the stub text encoder, with CLIP's names."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.out_proj = nn.Linear(CONTEXT, CONTEXT), nn.Linear(CONTEXT, CONTEXT)

    def forward(self, tokens):
        return tokens + self.out_proj(self.q_proj(tokens).tanh())


class TinyTextEncoder:
    """Contexts seeded by the prompt, through one layer that can take an adapter; counts what it encodes."""

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.module = nn.ModuleDict({"self_attn": Attention()})
        self.adapter_keys: Mapping[str, str] = {
            path: "lora_te_" + path.replace(".", "_") for path, _ in self.module.named_modules()
        }
        self.widths: Mapping[str, int] = {"l": CONTEXT}
        self.encoded: Counter[str] = Counter()

    def encode(self, prompts, vectors=None, pictures=()):
        self.encoded.update(prompts)
        return [Conditioning(self.module["self_attn"](self._tokens(prompt, vectors or {}))) for prompt in prompts]

    def _tokens(self, prompt, vectors):
        """One row (1, TOKENS, CONTEXT): noise of the prompt's own, its first rows replaced by learned vectors'."""
        row = torch.randn(1, TOKENS, CONTEXT, generator=generator_for(0, prompt, 0))
        learned = [found["l"] for word, found in vectors.items() if reads(prompt, word)]
        count = sum(map(len, learned))
        return torch.cat([*(found[None] for found in learned), row[:, count:]], dim=1)

    def token_rows(self, text):
        return {"l": torch.stack([torch.randn(CONTEXT, generator=generator_for(0, word, 0)) for word in text.split()])}


def photos(count=3, noun="dog", mask=None, seed=0, **prompts) -> tuple[Example, ...]:
    texts = {**PROMPTS, **prompts}
    return tuple(Example(latents=torch.randn(4, 8, 8, generator=generator_for(seed, noun, number)),
                         class_noun=noun, mask=mask, **texts) for number in range(count))


def training_data(examples=None, class_images=5) -> TrainingData:
    examples = photos() if examples is None else examples
    nouns = {example.class_noun for example in examples}
    pools = {noun: torch.randn(class_images, 4, 8, 8, generator=generator_for(1, noun, 0)) for noun in nouns}
    return TrainingData(
        examples=examples, class_latents=pools, class_prompts={noun: f"a {noun}" for noun in nouns}
    )


def training_config(steps=3, batch=2, objectives=(), rank=4, learning_rate=1e-3, seed=0, **options):
    return TrainingConfig(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        objectives=objectives,
        options=TrainingOptions(adapter=AdapterConfig(rank=rank, alpha=rank), **options),
    )


def trainer(config=None, data=None, denoiser=None, text_encoder=None, **others) -> Trainer:
    config = config or training_config()
    return Trainer(denoiser=denoiser or TinyDenoiser(), text_encoder=text_encoder or TinyTextEncoder(), config=config,
                   data=prepared_data(config.objectives, data or training_data()), **others)


def outcome(error, rows) -> Outcome:
    """Rows whose error is this."""
    return Outcome(rows=rows, prediction=error, target=torch.zeros_like(error), base=None, error=error)


def same_bits(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
