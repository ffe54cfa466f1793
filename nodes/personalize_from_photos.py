"""Photos, one word, Run: the model learns the subject by its family's recipe (DreamBooth, arXiv:2208.12242, with LoRA,
arXiv:2106.09685)."""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..core.store.runs import check_run_name
from ..core.training.automatic import chosen_lines
from ..core.training.effort import EFFORTS, KINDS, check_effort, check_kind
from ..core.wording import clean_prompt
from .bridge.notices import show_notice, shown_pictures
from .bridge.photos.folders import find_folder, folder_state, input_folders
from .bridge.photos.one_subject import NO_FOLDER, one_subject
from .bridge.queue.fingerprints import fingerprint
from .bridge.queue.queue_checks import answer
from .bridge.sampling.sampling import patched
from .bridge.sockets import PERSONALIZATION, SUBJECT
from .bridge.training.checks import warnings_about_run
from .bridge.training.from_photos import Wish, check_noun, empty_latents, settle
from .bridge.training.previews import shown_chart, with_usual_preview
from .bridge.training.recipe_report import about_recipe
from .bridge.training.run import personalize

SAMPLERS, SCHEDULERS = (io.Custom(list(choices)) for choices in (comfy.samplers.KSampler.SAMPLERS,
                                                                comfy.samplers.KSampler.SCHEDULERS))
"""As KSampler names the types of its combos: by their choices."""


class PersonalizeFromPhotos(io.ComfyNode):
    """MODEL, CLIP, VAE, photos and a word to the personalized MODEL and CLIP, and how to draw with them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeFromPhotos",
            display_name="Personalize from Photos",
            category="personalize",
            description="Choose photos, say what is in them, run: the model learns your subject. Everything else "
                        "follows the recipe of the model's family, and the report says every number and why.",
            search_aliases=["personalize", "train my face", "my face", "my dog", "dreambooth", "lora training",
                            "train lora", "fine-tune", "easy training", "one click"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that learns your subject; it stays as it is."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Combo.Input("photos", options=[NO_FOLDER, *input_folders()], default=NO_FOLDER,
                               tooltip="3 to 5 photos with different backgrounds work best. Press 'choose photos', "
                                       "drop them on the node, or choose a folder inside ComfyUI's input folder. "
                                       "none: connect images."),
                io.String.Input("what_is_it", default="dog",
                                tooltip="What is in the photos, in one or a few plain words: dog, woman, toy car."),
                io.Combo.Input("kind", options=list(KINDS), default="pet",
                               tooltip="What kind of subject. pet and person: class images keep other ones as they "
                                       "were, a person takes twice the steps; object and other: the model's own "
                                       "predictions keep them; style: the look of the pictures is learned."),
                io.Combo.Input("effort", options=list(EFFORTS), default="normal",
                               tooltip="quick: half the steps, no class images, to see whether it works; normal "
                                       "(default): the recipe; thorough: one and a half times the steps, 200 class "
                                       "images."),
                io.Int.Input("pictures", default=1, min=1, max=64,
                             tooltip="How many pictures the LATENT output holds, 1 to 64. Changes nothing that is "
                                     "learned. Default 1."),
                io.Int.Input("steps", default=0, min=0, max=1000000, advanced=True,
                             tooltip="Training steps in all. 0 (default): automatic, by recipe, photos, kind and "
                                     "effort."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                             advanced=True, tooltip="Seed of everything that is drawn at random. Default 0."),
                io.String.Input("run_name", default="", advanced=True,
                                tooltip="Folder under output/personalize, a plain name. Empty (default): the word."),
                io.Image.Input("images", optional=True,
                               tooltip="Optional. Photos from other nodes: one, a batch, or a list; sizes may differ."),
            ],
            outputs=_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, photos=None, what_is_it=None, kind=None, effort=None, run_name=None) -> bool | str:
        """Refuses a folder that is not there, and words that say nothing, when the graph is queued."""
        return answer(("photos", lambda name: name == NO_FOLDER or find_folder(name), photos),
                      ("what_is_it", check_noun, what_is_it), ("kind", check_kind, kind),
                      ("effort", check_effort, effort),
                      ("run_name", lambda name: not name.strip() or check_run_name(name), run_name))

    @classmethod
    def fingerprint_inputs(cls, photos=None, **_) -> str | float:
        """A digest of the folder's files; never the same for a linked name."""
        return fingerprint(lambda name: NO_FOLDER if name == NO_FOLDER else folder_state(name), photos)

    @classmethod
    def execute(cls, model, clip, vae, photos, what_is_it, kind, effort, pictures, steps, seed, run_name,
                images=None) -> io.NodeOutput:
        noun = clean_prompt(what_is_it[0], "what_is_it").strip()
        found = one_subject(photos[0], [image for image in images or () if image is not None], noun)
        settled = settle(Wish(model=model[0], clip=clip[0], vae=vae[0], photos=found, noun=noun, kind=kind[0],
                              effort=effort[0], seed=seed[0], steps=steps[0], run_name=run_name[0]))
        request, sampling = with_usual_preview(settled.request), settled.sampling.values
        result, shown = personalize(request)
        warnings = [*found.warnings, *warnings_about_run(request)]
        name = request.subjects[0].identifier
        told = "\n".join([f"Use {name}: write '{name} {noun}' in prompts, or {{V}} {{noun}} in Prompt with Subject.",
                          result.report, *chosen_lines(settled.told), *about_recipe(request)])
        show_notice(cls.hidden.unique_id, told, warnings)
        trained_model, trained_clip = patched(request.model, request.clip, result.lora)
        latents = empty_latents(request.model, request.vae, sampling["size"], pictures[0])
        report = "\n".join([told, *(f"Warning: {warning}" for warning in warnings)])
        return io.NodeOutput(trained_model, trained_clip, result, latents, sampling["sampling_steps"], sampling["cfg"],
                             sampling["sampler"], sampling["scheduler"], request.subjects, shown, name, noun, report,
                             ui=shown_pictures(shown, cls) | shown_chart(result) | {"text": (report,)})


def _outputs() -> list[io.Output]:
    """What a sampler takes, first; then what other nodes go on with."""
    return [
        io.Model.Output(tooltip="The personalized model, for any sampler."),
        io.Clip.Output(tooltip="The text encoder, for Prompt with Subject and the negative prompt."),
        PERSONALIZATION.Output("PERSONALIZATION", tooltip="For Prompt with Subject and Save Personalization."),
        io.Latent.Output(tooltip="Empty pictures of the size that the model's family draws, for KSampler."),
        io.Int.Output("steps", display_name="steps", tooltip="Sampling steps of the recipe, for KSampler."),
        io.Float.Output("cfg", display_name="cfg", tooltip="Guidance scale of the recipe, for KSampler."),
        SAMPLERS.Output("sampler_name", display_name="sampler_name", tooltip="Sampler of the recipe, for KSampler."),
        SCHEDULERS.Output("scheduler", display_name="scheduler", tooltip="Noise schedule of the recipe, for KSampler."),
        SUBJECT.Output("SUBJECT", tooltip="Photos and words, for the other nodes."),
        io.Image.Output(tooltip="Pictures of the subject after 25, 50 and 75 % of the training and at its end."),
        io.String.Output("identifier", display_name="identifier", tooltip="The rare word that means your subject."),
        io.String.Output("class_noun", display_name="class_noun", tooltip="What it is."),
        io.String.Output("report", display_name="report", tooltip="Every number that was chosen, and why."),
    ]
