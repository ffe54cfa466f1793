"""The methods' settings for the pocket model, as the bench found them on held-in subjects, and where the figures are.

`benchmarks/evidence` trains with these very settings; how they were chosen is in docs/evidence_settings.md, what they
give on held-out subjects in the row of docs/evidence.md that each one names.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..learning.adapter import AdapterConfig
from .config import TrainingOptions
from .presets import MethodPreset

SOURCE = ("docs/evidence_settings.md: the best of three settings tried on two held-in subjects of the pocket model's "
          "world; too few to rank methods by")


@dataclass(frozen=True, kw_only=True)
class MeasuredPreset(MethodPreset):
    """A method's settings on the pocket model.

    Attributes:
        evidence: the method's row in docs/evidence.md.
        batch: photos per step.
    """

    evidence: str
    batch: int = 2
    source: str = SOURCE

    def describe(self) -> str:
        """As for published settings, and the row of the evidence."""
        return f"{super().describe()}\nbatch {self.batch}. Evidence: docs/evidence.md, row '{self.evidence}'"


_ALL_LAYERS = AdapterConfig(targets="attention_and_feed_forward")
_LORA = TrainingOptions(adapter=_ALL_LAYERS, text_encoder_rate=5e-4, save_every=0)
_FULL = TrainingOptions(adapter=AdapterConfig(kind="full", targets="all"), text_encoder_rate=1e-4, save_every=0,
                        optimizer="adamw")
_KEYS_AND_VALUES = TrainingOptions(adapter=AdapterConfig(kind="full", targets="cross_attention_kv"), save_every=0,
                                   optimizer="adamw")

MEASURED: dict[str, MeasuredPreset] = {
    "textual_inversion": MeasuredPreset(
        title="Textual Inversion", evidence="Textual Inversion",
        options=TrainingOptions(trains_denoiser=False, save_every=0), learning_rate=5e-4, steps=300,
        needs="Token Vectors (4 vectors, started from the class noun, rate 1e-2) to token_vectors"),
    "dreambooth": MeasuredPreset(
        title="DreamBooth, all weights", evidence="DreamBooth, all weights", options=_FULL, learning_rate=4e-4,
        steps=160, needs="Prior Preservation (24 class images) to objective"),
    "custom_diffusion": MeasuredPreset(
        title="Custom Diffusion", evidence="Custom Diffusion", options=_KEYS_AND_VALUES, learning_rate=2e-3, steps=240,
        needs="Token Vectors (1 vector, started from the class noun, rate 1e-2); Prior Preservation (24 class images)"),
    "lora": MeasuredPreset(
        title="LoRA", evidence="LoRA", options=_LORA, learning_rate=1e-3, steps=160, needs="nothing more"),
    "ed_lora": MeasuredPreset(
        title="ED-LoRA (ordinary tokens)", evidence="ED-LoRA (ordinary tokens)", options=_LORA, learning_rate=1e-3,
        steps=160, needs="Token Vectors (2 vectors, started from the class noun, rate 1e-2) to token_vectors. Missing: "
                         "the paper's layer-wise vectors"),
    "ico": MeasuredPreset(
        title="ICO", evidence="ICO (n 2, m 2, k 1)", options=_KEYS_AND_VALUES, learning_rate=2e-3, steps=240,
        needs="Learned Contexts as a new node has it (prefix 2, suffix 1, identifier_vectors 2, rate_factor 10, "
              "identifier_rate_factor 1) and Prior Preservation (24 class images)"),
    "one_shot": MeasuredPreset(
        title="One photo, prototypical embedding", evidence="one-shot: prototype, L_CL, L_SP", options=_LORA,
        learning_rate=5e-4, steps=120, batch=1,
        needs="Prototypical Embedding (4 vectors, rate 1e-2) to token_vectors; Class Characterizing and Masked Loss "
              "with object_term and background_weight 1 to objective; one photo with a mask"),
}
