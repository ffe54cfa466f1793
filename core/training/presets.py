"""The baselines that the papers compare with, as settings of the one trainer (METHODS 4): what learns and at which
rate, and which other parts belong to the method. Nothing here is a mode: the same settings by hand are the same run."""

from __future__ import annotations

from dataclasses import dataclass

from ..learning.adapter import AdapterConfig
from .config import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class MethodPreset:
    """A method as settings.

    Attributes:
        title: its name in the literature.
        options: how the networks learn.
        learning_rate: of the diffusion network.
        steps: for 3 to 5 photos at batch 1, where the source does not say otherwise.
        needs: what else to connect, for people.
        source: where the settings are from.
    """

    title: str
    options: TrainingOptions
    learning_rate: float
    steps: int
    needs: str
    source: str

    def describe(self) -> str:
        """Title, settings, needs and source in lines."""
        settings = f"steps {self.steps}, learning_rate {self.learning_rate:g}, {_what(self.options)}"
        return "\n".join([self.title, settings, f"Connect: {self.needs}", f"Source: {self.source}"])


_FULL = AdapterConfig(kind="full", targets="all")
_KEYS_AND_VALUES = AdapterConfig(kind="full", targets="cross_attention_kv")

PRESETS = {
    "textual_inversion": MethodPreset(
        title="Textual Inversion",
        options=TrainingOptions(trains_denoiser=False),
        learning_rate=5e-4, steps=3000,
        needs="Token Vectors (1 vector, started from the class noun, rate 5e-4) to token_vectors. Nothing else learns.",
        source="Gal et al. 2022 (arXiv:2208.01618), rate (there scaled by the batch) and steps as diffusers' "
               "example has them"),
    "dreambooth": MethodPreset(
        title="DreamBooth, all weights",
        options=TrainingOptions(adapter=_FULL),
        learning_rate=5e-6, steps=800,
        needs="Prior Preservation (weight 1, about 200 class images per photo) to objective. For best likeness let the "
              "text encoder learn too: Training Options with kind full, targets all and text_encoder_rate 5e-6.",
        source="Ruiz et al. 2022 (arXiv:2208.12242), about 200 epochs; rate and steps for Stable Diffusion as "
               "diffusers' example has them"),
    "custom_diffusion": MethodPreset(
        title="Custom Diffusion",
        options=TrainingOptions(adapter=_KEYS_AND_VALUES, detach_begin_token=True),
        learning_rate=1e-5, steps=500,
        needs="Token Vectors (1 vector, started from a rare word, rate 1e-5) to token_vectors; Prior Preservation "
              "(200 real photos of the class: Regularization Images) to objective; Data Options with horizontal flips "
              "for subjects without a side.",
        source="Kumari et al. 2023 (arXiv:2212.04488): cross-attention keys and values; 250 steps at batch 2 on two "
               "GPUs"),
    "lora": MethodPreset(
        title="LoRA",
        options=TrainingOptions(),
        learning_rate=1e-4, steps=500,
        needs="nothing more; Prior Preservation keeps the class.",
        source="Hu et al. 2021 (arXiv:2106.09685); rate and steps as diffusers' examples have them"),
    "ed_lora": MethodPreset(
        title="ED-LoRA without its layer-wise vectors",
        options=TrainingOptions(adapter=AdapterConfig(rank=4, alpha=4.0, targets="attention"), text_encoder_rate=1e-5),
        learning_rate=1e-4, steps=1000,
        needs="Token Vectors (2 vectors, started from the class noun, rate 1e-3) to token_vectors. Missing: the "
              "paper's layer-wise embedding, a set of vectors of its own for each cross-attention layer. It is half of "
              "the method; here all layers read the same vectors, as stock nodes can load them.",
        source="Gu et al. 2023, Mix-of-Show (arXiv:2305.18292), 3.2: the LoRA and the multi-token word alone"),
    "ico": MethodPreset(
        title="ICO",
        options=TrainingOptions(adapter=_KEYS_AND_VALUES, detach_begin_token=True),
        learning_rate=6e-5, steps=900,
        needs="Learned Contexts (prefix 4, suffix 2, identifier_vectors 3, rate_factor 10, identifier_rate_factor 1, "
              "identifier_words from Identifier Picker with tokens 3) and Prior Preservation (class images one to one) "
              "to objective; batch 6, Data Options with flips.",
        source="Jin et al., ECCV 2024: published code, at most 900 steps at 1e-5 times a batch of 6"),
    "one_shot": MethodPreset(
        title="One photo, prototypical embedding",
        options=TrainingOptions(),
        learning_rate=1e-4, steps=100,
        needs="Prototypical Embedding (4 vectors) through Token Vectors to token_vectors; Class Characterizing and "
              "Masked Loss with object_term to objective; one photo with a mask.",
        source="Lu, Xie, Guo 2024: LoRA, 100 steps at 1e-4, batch 1"),
}


def _what(options: TrainingOptions) -> str:
    text = options.text_adapter or options.adapter
    denoiser = _how(options.adapter) if options.trains_denoiser else "frozen"
    encoder = f"{_how(text)} at {options.text_encoder_rate:g}" if options.text_encoder_rate else "frozen"
    begin = ", begin token detached" if options.detach_begin_token else ""
    return f"diffusion model: {denoiser}{begin}, text encoder: {encoder}"


def _how(adapter: AdapterConfig) -> str:
    size = "" if adapter.kind == "full" else f" of rank {adapter.rank}"
    return f"{adapter.kind}{size} in {adapter.targets}"
