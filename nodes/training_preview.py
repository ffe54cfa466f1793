"""Pictures while training, by ComfyUI's own samplers, without changing the result by a bit."""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..core.training.automatic import AUTO
from ..core.wording import clean_prompts
from .bridge.sockets import PREVIEW, PreviewSettings


class TrainingPreview(io.ComfyNode):
    """Sampler settings to PREVIEW."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeTrainingPreview",
            display_name="Training Preview",
            category="personalize",
            description="What Personalize Trainer samples on the way: pictures on the way, and one at the "
                        "end. Changing it never retrains.",
            search_aliases=["training samples", "validation image"],
            inputs=[
                io.String.Input("prompt", multiline=True, default="a {V} {noun} on the beach",
                                tooltip="What the preview shows. {V} is your subject's word, {noun} what it is; of "
                                        "several subjects {V1} {noun1}, {V2} {noun2} and so on."),
                io.Combo.Input("sampler", options=[AUTO, *comfy.samplers.KSampler.SAMPLERS], default=AUTO,
                               tooltip="Sampler, as in KSampler. auto (default): by the model's recipe."),
                io.Combo.Input("scheduler", options=[AUTO, *comfy.samplers.KSampler.SCHEDULERS], default=AUTO,
                               tooltip="Noise schedule, as in KSampler. auto (default): by the model's recipe."),
                io.Int.Input("steps", default=0, min=0, max=1000,
                             tooltip="Sampling steps, up to 1000. 0 (default): automatic, by the model's recipe."),
                io.Float.Input("cfg", default=0.0, min=0.0, max=100.0, step=0.1,
                               tooltip="Guidance scale, up to 100; 1 = no guidance. 0 (default): automatic, by the "
                                       "model's recipe."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                             tooltip="Noise of the preview: the same for every one, so that they can be compared."),
                io.Int.Input("every", default=0, min=0, max=100000,
                             tooltip="Training steps between two previews; 0 (default): after 25, 50 and 75 % of the "
                                     "run. A preview costs about as much as its sampling steps in training steps."),
                io.String.Input("negative_prompt", default="", advanced=True, tooltip="What to avoid. Default empty."),
            ],
            outputs=[PREVIEW.Output("PREVIEW", tooltip="For Personalize Trainer.")],
        )

    @classmethod
    def execute(cls, prompt, sampler, scheduler, steps, cfg, seed, every, negative_prompt) -> io.NodeOutput:
        prompt, negative_prompt = clean_prompts(prompt=prompt, negative_prompt=negative_prompt)
        return io.NodeOutput(PreviewSettings(prompt=prompt, negative_prompt=negative_prompt, sampler=sampler,
                                             scheduler=scheduler, steps=steps, cfg=cfg, seed=seed, every=every))
