"""Teach an upscaler the fine details of your subject (DreamBooth, arXiv:2208.12242, 4.3).

The 4x upscaler of Stable Diffusion learns, by an adapter, pairs of your photos and their small versions, at less noise
than it was trained with: so it draws your subject's patterns instead of inventing or blurring them (figure 14).
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.store.runs import check_run_name
from ..core.training.config import TrainingConfig, TrainingOptions
from .bridge.notices import show_notice, shown_pictures
from .bridge.queue.queue_checks import WholeSteps, answer
from .bridge.sampling.sampling import patched
from .bridge.sockets import LORA_MODEL, PERSONALIZATION, SUBJECT
from .bridge.super_resolution.sheet import SheetSettings, compare_upscalers
from .bridge.super_resolution.training import (
    UpscalerRequest,
    blocked,
    check_models,
    nothing,
    personalize_upscaler,
    warnings_about_pairs,
)
from .bridge.super_resolution.upscaler import LOW, NOISES, NONE, noise_augmentation, pairs_objective, upscaler_adapter


class PersonalizeSuperResolution(io.ComfyNode):
    """MODEL, CLIP and VAE of an upscaler and SUBJECT to the personalized upscaler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeSuperResolution",
            display_name="Personalize Super-Resolution",
            category="personalize",
            description="Fine-tunes the 4x upscaler on your photos, so that it keeps the small details of your "
                        "subject. Then upscale pictures with stock nodes: SD_4XUpscale_Conditioning and KSampler.",
            search_aliases=["upscaler", "super resolution", "x4", "upscaler for dreambooth", "fine-tune upscaler"],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion's x4 upscaler, or the pocket upscaler."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the upscaler (pocket: the pocket "
                                              "checkpoint's)."),
                io.Vae.Input("vae", tooltip="The VAE of the upscaler's own checkpoint; other VAEs divide by 8."),
                SUBJECT.Input("subject", tooltip="Photos and words from Subject Photos; photos as large as you have."),
                *_widgets(),
                *_advanced(),
            ],
            outputs=[
                io.Model.Output(tooltip="The personalized upscaler."),
                LORA_MODEL.Output("LORA_MODEL", tooltip="The adapter's tensors, for the stock Save LoRA Weights."),
                PERSONALIZATION.Output("PERSONALIZATION", tooltip="For Save Personalization."),
                io.Float.Output("noise_augmentation", display_name="noise_augmentation",
                                tooltip="For SD_4XUpscale_Conditioning: the level that the upscaler was tuned for."),
                io.Image.Output(tooltip="Sheet: small picture, upscaler as it is, personalized, photo."),
                io.String.Output("report", display_name="report", tooltip="What was done and seen."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, run_name=None) -> bool | str:
        """Refuse a name that is none for a folder before anything runs."""
        return answer(("run_name", check_run_name, run_name))

    @classmethod
    def execute(cls, model, clip, vae, subject, noise, steps, learning_rate, rank, resolution, crop, seed, run_name,
                batch=1, preview_photos=2, preview_steps=20, preview_cfg=4.0) -> io.NodeOutput:
        check_models(model, clip, vae)
        pairs = pairs_objective(model, noise, crop)
        options = TrainingOptions(adapter=upscaler_adapter(model, rank))
        config = TrainingConfig(steps=steps, learning_rate=learning_rate, batch=batch, resolution=resolution, seed=seed,
                                options=options, objectives=(pairs,))
        request = UpscalerRequest(model=model, clip=clip, vae=vae, subjects=tuple(subject), config=config,
                                  run_name=run_name)
        result = nothing(request) if noise == NONE else personalize_upscaler(request)
        trained = patched(model, None, result.lora)[0] if result.lora else model
        settings = SheetSettings(photos=preview_photos, steps=preview_steps, cfg=preview_cfg, seed=seed)
        sheet, figures = compare_upscalers(request, trained if result.lora else None, settings)
        warnings = warnings_about_pairs(request)
        report = "\n".join([result.report, *figures, *(f"Warning: {warning}" for warning in warnings)])
        show_notice(cls.hidden.unique_id, report, warnings)
        learned = (dict(result.lora), result) if result.lora else blocked()
        shown = shown_pictures(sheet, cls) | {"text": (report,)}
        return io.NodeOutput(trained, *learned, noise_augmentation(model, pairs.level), sheet, report, ui=shown)


def _widgets() -> list[io.Input]:
    """What is learned, for how long and at which sizes."""
    return [
        io.Combo.Input("noise", options=list(NOISES), default=LOW,
                       tooltip="Noise in the small picture in training: low (paper) = variance 1e-5; usual = "
                               "1e-3, which blurs fine patterns in the paper; none = no fine-tuning, the "
                               "upscaler comes out as it is. Default low (paper)."),
        io.Int.Input("steps", default=200, min=1, max=1000000,
                     tooltip="Training steps in all, 1 or more. A longer run goes on from a shorter one. "
                             "Default 200."),
        io.Float.Input("learning_rate", default=1e-4, min=1e-7, max=0.1, step=0.000001, round=False,
                       tooltip="Learning rate of the adapter, 1e-7 to 0.1. Default 1e-4."),
        io.Int.Input("rank", default=16, min=1, max=256,
                     tooltip="Rank of the LoRA in every linear and convolution layer but the last "
                             "block's, 1 to 256. Default 16."),
        io.Int.Input("resolution", default=2048, min=WholeSteps(64, 8), max=2048, step=32,
                     tooltip="Photos are cropped to the centre and scaled to this many pixels, 64 to 2048: the "
                             "size that you want to upscale to, not above the photos' own. Default 2048."),
        io.Int.Input("crop", default=512, min=WholeSteps(32, 32), max=2048, step=32,
                     tooltip="Pixels of the training crops cut out of the photos, 32 to 2048, a multiple of "
                             "32. Default 512, as the x4 upscaler was trained; 96 for the pocket upscaler."),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                     tooltip="Seed of adapter, order, noise and timesteps. Same seed, same result on CPU."),
        io.String.Input("run_name", default="my_upscaler",
                        tooltip="Folder under output/personalize, a plain name. Only a label: other settings "
                                "under the same name get a folder with a suffix."),
    ]


def _advanced() -> list[io.Input]:
    """Batches, and the sheet on which upscalers are compared."""
    return [
        io.Int.Input("batch", default=1, min=1, max=64, advanced=True,
                     tooltip="Crops per step, 1 to 64. Default 1."),
        io.Int.Input("preview_photos", default=2, min=0, max=16, advanced=True,
                     tooltip="Photos whose centre is upscaled for the sheet, before and after, 0 to 16; 0 = no "
                             "sheet. Default 2."),
        io.Int.Input("preview_steps", default=20, min=1, max=200, advanced=True,
                     tooltip="Sampling steps of the sheet, 1 to 200. Default 20."),
        io.Float.Input("preview_cfg", default=4.0, min=1.0, max=30.0, step=0.1, advanced=True,
                       tooltip="Guidance scale of the sheet, 1 to 30; 1 for the pocket upscaler, which reads "
                               "no text. Default 4."),
    ]
