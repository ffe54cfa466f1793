"""Class images: what the frozen model shows for 'a {noun}' (DreamBooth, arXiv:2208.12242, 3.3)."""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..core.errors import require
from ..core.store.class_images import PriorRecipe, check_noun_is_new
from ..core.subject.subject import CLASS_TEMPLATE, fill
from ..core.training.automatic import AUTO, chosen_lines
from ..core.wording import clean_prompt
from .bridge.model.automatic import settle_class_images
from .bridge.notices import show_notice
from .bridge.queue.queue_checks import SIDE
from .bridge.sampling.class_images import decode, make_class_images, model_digest, text_encoder_digest
from .bridge.sockets import PRIOR

LARGEST_SEED = 0xFFFFFFFFFFFFFFFF


class PriorSampleGen(io.ComfyNode):
    """From a frozen model to one pool of class images per noun, sampled once and kept on disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PriorSampleGen",
            display_name="Class Images",
            category="personalize",
            description="Samples pictures of the subject's class from the model as it is, so that training "
            "keeps what the model knows of it. Kept on disk: the second run samples nothing.",
            search_aliases=["class images", "regularization images", "prior preservation",
                            "class images for dreambooth"],
            inputs=[
                io.Model.Input("model", tooltip="The model before training; its LoRAs count."),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Vae.Input("vae", tooltip="The model's VAE, only to show the pictures."),
                io.String.Input("class_noun", default="dog",
                                tooltip="The class, as in Subject Photos; the prompt is 'a {noun}'."),
                *_settings(),
                PRIOR.Input("prior", optional=True, tooltip="Class images of another noun."),
            ],
            outputs=[
                PRIOR.Output("PRIOR", tooltip="All pools so far, for Prior Preservation."),
                io.Image.Output("IMAGE", tooltip="The first of the images, to look at."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, clip, vae, class_noun, count, size, sampler, scheduler, steps, cfg, seed, batch,
                shown, prior=None) -> io.NodeOutput:
        noun, upstream = clean_prompt(class_noun, "class_noun").strip(), tuple(prior or ())
        for name, value in {"model": model, "clip": clip, "vae": vae}.items():
            require(value is not None, name, "nothing", f"a {name.upper()}", "Connect a loader that has one.")
        require(getattr(vae, "first_stage_model", None) is not None, "vae", "nothing", "a VAE",
                "This checkpoint has none; connect a VAE loader.")  # else ComfyUI says so after all images are made
        check_noun_is_new(upstream, noun)
        values, told = settle_class_images(model, count=count, size=size, sampler=sampler, scheduler=scheduler,
                                           sampling_steps=steps, cfg=cfg)
        count, steps = values.pop("count"), values.pop("sampling_steps")
        recipe = PriorRecipe(model=model_digest(model), text_encoder=text_encoder_digest(clip), **values, steps=steps,
                             seed=seed, prompt=fill(CLASS_TEMPLATE, "", noun))
        pool, new = make_class_images(model, clip, recipe, noun, count, batch)
        warnings = [] if noun else ["the class noun is empty: the class images show anything at all."]
        if pool.unsaved:
            warnings.append(f"class images could not be kept, and are made again next time: {pool.unsaved}")
        said = "\n".join([f"{count} images of '{recipe.prompt}', {new} of them new", *chosen_lines(told)])
        show_notice(cls.hidden.unique_id, said, warnings)
        return io.NodeOutput((*upstream, pool), decode(vae, pool.latents[:shown], batch))


def _settings() -> list[io.Input]:
    """How the images are sampled."""
    samplers, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
    return [
        io.Int.Input("count", default=0, min=0, max=10000,
                     tooltip="How many class images, up to 10000. 100 to 200 per subject work well; a larger "
                             "number later keeps those that exist. 0 (default): automatic, 200."),
        io.Int.Input("size", default=0, min=SIDE, max=4096, step=8,
                     tooltip="Width and height in pixels, 64 to 4096: the training resolution. 0 (default): "
                             "automatic, the resolution of the model's recipe, as in Personalize Trainer."),
        io.Combo.Input("sampler", options=[AUTO, *samplers], default=AUTO,
                       tooltip="ComfyUI's sampler. auto (default): by the model's recipe. DreamBooth uses an ancestral "
                               "one."),
        io.Combo.Input("scheduler", options=[AUTO, *schedulers], default=AUTO, advanced=True,
                       tooltip="ComfyUI's noise schedule. auto (default): by the model's recipe."),
        io.Int.Input("steps", default=0, min=0, max=1000,
                     tooltip="Sampling steps per image, up to 1000. 0 (default): automatic, by the model's recipe."),
        io.Float.Input("cfg", default=0.0, min=0.0, max=100.0, step=0.1,
                       tooltip="Guidance scale, up to 100; 1 is without guidance and twice as fast. 0 (default): "
                               "automatic, by the model's recipe."),
        io.Int.Input("seed", default=0, min=0, max=LARGEST_SEED, control_after_generate=False,
                     tooltip="Image i depends on this seed and i alone, 0 to 2^64 - 1."),
        io.Int.Input("batch", default=4, min=1, max=64, advanced=True,
                     tooltip="Images sampled at a time, 1 to 64: speed and memory. Another batch is another pool, "
                             "whose pictures differ by rounding."),
        io.Int.Input("shown", default=16, min=1, max=10000, advanced=True,
                     tooltip="How many are decoded for the IMAGE output, 1 to 10000."),
    ]
