"""How Personalize Trainer learns: adapter, optimiser, precision, memory. Without this node its defaults apply.

LoRA: Hu et al. 2021 (arXiv:2106.09685).
"""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io

from ..core.adapter import TARGETS, AdapterConfig
from ..core.config import LRSchedule, Optimizer, Precision, Switch, TrainingOptions
from .bridge.sockets import OPTIONS


class TrainingOptionsNode(io.ComfyNode):
    """Widgets to OPTIONS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrainingOptions",
            display_name="Training Options",
            category="personalize",
            description="Adapter, learning rates, precision and memory of Personalize Trainer. Leave it out to use the "
                        "defaults shown here.",
            search_aliases=["lora rank", "optimizer", "learning rate schedule", "gradient checkpointing"],
            inputs=[
                io.Int.Input("rank", default=16, min=1, max=1024,
                             tooltip="Rank of the LoRA, 1 to the smallest trained layer's width. More holds more "
                                     "detail and makes a larger file. Default 16."),
                io.Float.Input("alpha", default=16.0, min=0.01, max=1024.0, step=0.5,
                               tooltip="The LoRA is scaled by alpha / rank, above 0. Default 16, the default rank."),
                io.Combo.Input("targets", options=list(TARGETS), default="attention",
                               tooltip="Which layers learn. attention: all attention projections (default); "
                                       "cross_attention_kv: only what reads the text (Custom Diffusion); "
                                       "attention_and_feed_forward: most capacity."),
                io.Float.Input("text_encoder_rate", default=0.0, min=0.0, max=0.1, step=0.000001, round=False,
                               tooltip="Learning rate of the text encoder's own LoRA; 0 keeps it frozen (default). "
                                       "Half of the trainer's rate is a good start: the identifier is learned faster."),
                io.Combo.Input("precision", options=list(get_args(Precision)), default="auto",
                               tooltip="Arithmetic of the forward pass. auto: bf16 on GPUs that have it, else the "
                                       "network's own. "
                                       "The adapter itself is always fp32."),
                io.Combo.Input("gradient_checkpointing", options=list(get_args(Switch)), default="auto",
                               tooltip="on: recompute activations, about half the memory at a third more time. auto "
                                       "(default): only when memory would not suffice."),
                io.Int.Input("save_every", default=50, min=0, max=100000,
                             tooltip="Steps between two saves of the whole state, from which a stopped run goes on; "
                                     "0: only at the end or on cancel. Default 50."),
                io.Combo.Input("optimizer", options=list(get_args(Optimizer)), default="adamw", advanced=True,
                               tooltip="Optimiser. Default adamw."),
                io.Combo.Input("lr_schedule", options=list(get_args(LRSchedule)), default="constant", advanced=True,
                               tooltip="Learning rate over the run. linear and cosine fall to 0 at the last step, so "
                                       "such a run cannot be extended. Default constant."),
                io.Int.Input("warmup_steps", default=0, min=0, max=100000, advanced=True,
                             tooltip="Steps over which the rate rises from 0; needs another schedule than constant. "
                                     "Default 0."),
                io.Int.Input("accumulation", default=1, min=1, max=1024, advanced=True,
                             tooltip="Batches per step: the effect of a batch this many times larger, in the memory "
                                     "of one. Default 1."),
                io.Float.Input("max_grad_norm", default=1.0, min=0.0, max=1000.0, step=0.1, advanced=True,
                               tooltip="Gradients are clipped to this norm; 0 = no clipping. Default 1."),
                io.String.Input("target_pattern", default="", advanced=True,
                                tooltip="A regular expression over whole module paths that replaces targets, e.g. "
                                        r"output_blocks\..*attn2\.to_[kv]. Empty (default): use targets."),
            ],
            outputs=[OPTIONS.Output("OPTIONS", tooltip="For Personalize Trainer.")],
        )

    @classmethod
    def execute(cls, rank, alpha, targets, text_encoder_rate, precision, gradient_checkpointing, save_every, optimizer,
                lr_schedule, warmup_steps, accumulation, max_grad_norm, target_pattern) -> io.NodeOutput:
        adapter = AdapterConfig(rank=rank, alpha=alpha, targets=target_pattern.strip() or targets)
        return io.NodeOutput(TrainingOptions(
            adapter=adapter, text_encoder_rate=text_encoder_rate, accumulation=accumulation, optimizer=optimizer,
            lr_schedule=lr_schedule, warmup_steps=warmup_steps, max_grad_norm=max_grad_norm, precision=precision,
            gradient_checkpointing=gradient_checkpointing, save_every=save_every))
