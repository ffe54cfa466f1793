"""How Personalize Trainer learns: adapter or all weights, optimiser, precision, memory. Without this node its defaults
apply. The methods and their papers: `core.adapter.AdapterConfig`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..core.learning.adapter import KINDS, TARGETS, AdapterConfig
from ..core.training.automatic import AUTO
from ..core.training.config import LRSchedule, Optimizer, Precision, Switch, TrainingOptions
from .bridge.sockets import OPTIONS

SAME = "same"


class TrainingOptionsNode(io.ComfyNode):
    """Widgets to OPTIONS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeTrainingOptions",
            display_name="Training Options",
            category="personalize",
            description="Adapter or full weights, rates, precision and memory of Personalize Trainer. Leave it "
                        "out to use the defaults shown here.",
            search_aliases=["lora rank", "t-lora", "dora", "lokr", "loha", "oft", "full fine-tuning", "optimizer",
                            "learning rate schedule", "gradient checkpointing"],
            inputs=[
                io.Combo.Input("kind", options=list(KINDS), default="lora",
                               tooltip="How the diffusion model learns. lora (default), rslora (for high ranks), "
                                       "dora (direction and size apart), lokr and loha (small files), oft (rotations): "
                                       "adapters beside frozen weights. full: the weights of the targets themselves, "
                                       "with targets all of DreamBooth."),
                io.Int.Input("rank", default=16, min=1, max=1024,
                             tooltip="Rank of the adapter, 1 to the smallest trained layer's width; in oft the size of "
                                     "a rotated block, 2 or more. More holds more detail and makes a larger file. "
                                     "Default 16; full has none."),
                io.Float.Input("alpha", default=16.0, min=0.01, max=1024.0, step=0.5,
                               tooltip="The adapter is scaled by alpha / rank (rslora: alpha / square root of rank), "
                                       "above 0. Default 16, the default rank; oft and full have none."),
                io.Combo.Input("targets", options=[AUTO, *TARGETS], default=AUTO,
                               tooltip="Which layers learn. auto (default): by the model's recipe, told in the report; "
                                       "attention: all attention projections; "
                                       "cross_attention_kv: only what reads the text (Custom Diffusion); "
                                       "attention_and_feed_forward: more capacity; all: every linear and convolution "
                                       "layer (oft: no convolutions wider than 1), with full every weight there is."),
                io.Boolean.Input("train_unet", default=True,
                                 tooltip="Whether the diffusion model learns; off in Textual Inversion or for the text "
                                         "encoder alone. Default on."),
                io.Float.Input("text_encoder_rate", default=0.0, min=0.0, max=0.1, step=0.000001, round=False,
                               tooltip="Learning rate of the text encoder; 0 keeps it frozen (default). "
                                       "Half of the trainer's rate is a good start: the identifier is learned faster."),
                io.Combo.Input("optimizer", options=list(get_args(Optimizer)), default="auto",
                               tooltip="auto (default): AdamW; for full weights 8-bit AdamW where bitsandbytes and an "
                                       "NVIDIA GPU are there, else Adafactor. adamw8bit: package bitsandbytes. "
                                       "prodigy: package prodigyopt; it finds one rate for all by itself. "
                                       "adamw_schedulefree: package schedulefree; hands on an average of its steps, "
                                       "so that the rate need not fall."),
                io.Combo.Input("precision", options=list(get_args(Precision)), default="auto",
                               tooltip="Arithmetic of the forward pass. auto: bf16 on GPUs that have it, else the "
                                       "network's own. What learns is always fp32."),
                *_advanced(),
            ],
            outputs=[OPTIONS.Output("OPTIONS", tooltip="For Personalize Trainer.")],
        )

    @classmethod
    def execute(cls, kind, rank, alpha, targets, train_unet, text_encoder_rate, block_ranks, target_pattern,
                text_encoder_kind, **options) -> io.NodeOutput:
        adapter = AdapterConfig(kind=kind, rank=rank, alpha=alpha, targets=target_pattern.strip() or targets,
                                block_ranks=block_ranks.strip())
        return io.NodeOutput(TrainingOptions(
            adapter=adapter, text_adapter=_text_adapter(adapter, text_encoder_kind), trains_denoiser=train_unet,
            text_encoder_rate=text_encoder_rate, **options))


def _text_adapter(adapter: AdapterConfig, kind: Any) -> AdapterConfig | None:
    """The text encoder's own way to learn; None where it learns as the diffusion model does."""
    if kind == SAME:
        return None
    own = replace(adapter, kind=kind, block_ranks="")
    return replace(own, targets="all") if own.is_full else own


def _advanced() -> list[io.Input]:
    """What most runs leave alone."""
    return [
        io.Combo.Input("gradient_checkpointing", options=list(get_args(Switch)), default="auto", advanced=True,
                       tooltip="on: recompute activations, about half the memory at a third more time. off: never. "
                               "auto (default): only where an estimate says that memory would not suffice."),
        io.Int.Input("save_every", default=50, min=0, max=100000, advanced=True,
                     tooltip="Steps between two saves of the whole state, from which a stopped run goes on; "
                             "0: only at the end or on cancel. Default 50; full weights are large."),
        io.String.Input("block_ranks", default="", multiline=True, advanced=True,
                        tooltip="Other ranks by part of the network, such as middle=8, output=32: a part of a "
                                "module's path (a regular expression), = and a rank; 0 leaves layers out. "
                                "Empty (default): one rank."),
        io.String.Input("target_pattern", default="", advanced=True,
                        tooltip="A regular expression over whole module paths that replaces targets, e.g. "
                                r"output_blocks\..*attn2\.to_[kv]. Empty (default): use targets."),
        io.Combo.Input("text_encoder_kind", options=[SAME, *KINDS], default=SAME, advanced=True,
                       tooltip="How the text encoder learns, where its rate is above 0. same (default): as the "
                               "diffusion model; an adapter kind: with the same rank, alpha and targets; full: "
                               "all of its weights."),
        *_of_the_optimizer(),
        io.Int.Input("min_rank", default=0, min=0, max=1023, optional=True, advanced=True,
                     tooltip="T-LoRA: so many ranks act at the highest noise, more with less noise, all at none; keeps "
                             "poses and backgrounds of few photos from being learned by heart. Below the rank; the "
                             "authors use half of it. lora and rslora only. 0 (default): the whole rank always."),
        io.Boolean.Input("detach_begin_token", default=False, optional=True, advanced=True,
                         tooltip="Whether keys and values of the prompt's begin token learn nothing, as in the code of "
                                 "Custom Diffusion and ICO. Needs cross-attention (SD 1.x, 2.x, XL). Default off."),
        io.Int.Input("keep_every", default=0, min=0, max=100000, optional=True, advanced=True,
                     tooltip="Steps between two adapter files that are kept on the way, for Checkpoint Grid and Load "
                             "Personalization: see when it was good. Changes nothing that is learned. 0 (default): "
                             "only the last one."),
    ]


def _of_the_optimizer() -> list[io.Input]:
    """How a gradient becomes a step, and steps a result."""
    return [
        io.Float.Input("weight_decay", default=0.01, min=0.0, max=10.0, step=0.001, round=False, advanced=True,
                       tooltip="Share of the weights, times the rate, that every step takes off; 0 = none. Not "
                               "from token vectors. Default 0.01."),
        io.Combo.Input("lr_schedule", options=list(get_args(LRSchedule)), default="constant", advanced=True,
                       tooltip="Learning rate over the run. All but the constant ones are 0 at the last step, "
                               "so such a run cannot be extended. Default constant."),
        io.Int.Input("warmup_steps", default=0, min=0, max=100000, advanced=True,
                     tooltip="Steps over which the rate rises from 0; needs another schedule than constant. "
                             "Default 0."),
        io.Int.Input("lr_cycles", default=3, min=1, max=1000, advanced=True,
                     tooltip="How often cosine_with_restarts falls from the rate to 0, 1 or more. Default 3."),
        io.Float.Input("lr_power", default=2.0, min=0.1, max=10.0, step=0.1, advanced=True,
                       tooltip="How steeply polynomial falls, 0.1 to 10; 1 is a straight line. Default 2."),
        io.Int.Input("accumulation", default=1, min=1, max=1024, advanced=True,
                     tooltip="Batches per step: the effect of a batch this many times larger, in the memory "
                             "of one. Default 1."),
        io.Float.Input("max_grad_norm", default=1.0, min=0.0, max=1000.0, step=0.1, advanced=True,
                       tooltip="Gradients are clipped to this norm; 0 = no clipping. Default 1."),
        io.Float.Input("ema_decay", default=0.0, min=0.0, max=0.9999, step=0.001, round=False, advanced=True,
                       tooltip="Hand on a moving average of the weights with this decay, 0 to 0.9999, in place "
                               "of the last ones: steadier results. 0 (default) = none; 0.99 is usual."),
    ]
