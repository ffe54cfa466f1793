"""Teach the loaded model your subject, inside the graph.

DreamBooth (arXiv:2208.12242) with LoRA (arXiv:2106.09685): photos captioned 'a {V} {noun}', and whatever the objective
nodes add. Runs are kept on disk: the same graph loads its result, more steps go on from it, a cancelled run resumes.
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.store.runs import check_run_name
from ..core.training.automatic import chosen_lines
from ..core.training.config import TrainingConfig
from .bridge.model.automatic import settle_preview, settle_training
from .bridge.model.storage import about_storage
from .bridge.notices import show_notice, shown_pictures
from .bridge.queue.queue_checks import SIDE, answer
from .bridge.queue.settings_checks import check_class_image_sizes
from .bridge.sampling.sampling import patched
from .bridge.sockets import (
    IMAGE_TEXT_ENCODER,
    LORA_MODEL,
    LOSS_MAP,
    OBJECTIVE,
    OPTIONS,
    PERSONALIZATION,
    PREVIEW,
    SUBJECT,
    TOKEN_VECTORS,
    VALIDATION,
    ObjectiveChain,
)
from .bridge.training.checks import warnings_about_run
from .bridge.training.previews import named_preview, shown_chart
from .bridge.training.recipe_levels import with_recipe_levels
from .bridge.training.recipe_report import about_recipe
from .bridge.training.references import about_references
from .bridge.training.request import Request
from .bridge.training.run import personalize
from .bridge.training.token_vectors import subject_texts, vectors_of_subjects, with_vectors


class PersonalizeTrainer(io.ComfyNode):
    """MODEL, CLIP, VAE and SUBJECT to the personalized MODEL and CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeTrainer",
            display_name="Personalize Trainer",
            category="personalize",
            description="Trains on your photos in the loaded model, and hands on MODEL and CLIP with what was "
                        "learned. The loaded model itself stays as it is. Everything learned is kept under "
                        "output/personalize.",
            search_aliases=["personalize", "dreambooth", "lora training", "train lora", "train my face", "fine-tune",
                            "fine-tuning", "finetune"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to personalize; LoRAs on it stay part of it."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                SUBJECT.Input("subject", tooltip="Photos and words from Subject Photos."),
                OBJECTIVE.Input("objective", optional=True,
                                tooltip="Optional. Prior Preservation, Masked Loss or both; leave it empty for the "
                                        "plain loss on photos."),
                OPTIONS.Input("options", optional=True,
                              tooltip="Optional. Training Options; leave it empty to follow the recipe of the model."),
                PREVIEW.Input("preview", optional=True,
                              tooltip="Optional. Training Preview; leave it empty for no pictures on the way."),
                VALIDATION.Input("validation", optional=True,
                                 tooltip="Optional. Validation; leave it empty to hand on the last step."),
                TOKEN_VECTORS.Input("token_vectors", optional=True,
                                    tooltip="Optional. Token Vectors or Prototypical Embedding; leave it empty to keep "
                                            "the identifier's own tokens as they are."),
                IMAGE_TEXT_ENCODER.Input("image_text", optional=True,
                                         tooltip="Image-Text Encoder, for objectives that need one (Class "
                                                 "Characterizing)."),
                io.Model.Input("sample_with", display_name="model to sample with", optional=True,
                               tooltip="Another MODEL of the same layers: the previews are sampled with it, and it is "
                                       "handed on with what was learned. The distilled one where its base is trained "
                                       "(Krea 2 Turbo for Raw), or the one without the training adapter. Empty: the "
                                       "trained one."),
                *_widgets(),
            ],
            outputs=_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, run_name=None) -> bool | str:
        """Refuse a name that is none for a folder, and class images of another size, before anything runs."""
        return answer(("run_name", check_run_name, run_name),
                      ("run_name", lambda _: check_class_image_sizes(getattr(cls.hidden, "unique_id", None)), run_name))

    @classmethod
    def execute(cls, model, clip, vae, subject, steps, learning_rate, batch, resolution, seed, run_name,
                objective=None, options=None, preview=None, validation=None, token_vectors=None,
                image_text=None, sample_with=None) -> io.NodeOutput:
        chain = objective or ObjectiveChain()
        vectors, starts = vectors_of_subjects(token_vectors or (), subject)
        settled = settle_training(model, sum(len(one.photos) for one in subject), options, {
            "steps": steps, "learning_rate": learning_rate, "batch": batch, "resolution": resolution})
        preview, of_preview = settle_preview(sample_with or model, named_preview(preview, subject))
        config = TrainingConfig(
            **settled.values, seed=seed, options=settled.options, objectives=chain.objectives,
            token_vectors=vectors, validation=validation.config if validation else None)
        config = with_recipe_levels(config, model, is_automatic=not learning_rate)
        request = Request(model=model, clip=clip, vae=vae, subjects=tuple(subject), config=config,
                          run_name=run_name, class_images=chain.class_images, preview=preview,
                          validation=validation, starts=starts, image_text=image_text, sample_with=sample_with)
        result, pictures = personalize(request)
        warnings = warnings_about_run(request)
        told = "\n".join([result.report, *chosen_lines([*settled.told, *of_preview]), *about_references(request),
                          *about_storage(model), *about_recipe(request)])
        report = "\n".join([told, *(f"Warning: {warning}" for warning in warnings)])
        show_notice(cls.hidden.unique_id, told, warnings)
        trained_model, trained_clip = patched(request.sampling_model, clip, result.lora,
                                              min_rank=config.options.min_rank)
        trained_clip = with_vectors(trained_clip, result.token_vectors)
        drawn = shown_pictures(pictures, cls) if preview else {}  # without pictures the node draws the chart alone
        shown = drawn | shown_chart(result) | {"text": (report,)}
        return io.NodeOutput(trained_model, trained_clip, dict(result.lora), {"loss": list(result.losses)}, pictures,
                             result, report, subject_texts(result), ", ".join(result.metadata["class_nouns"]), ui=shown)


def _outputs() -> list[io.Output]:
    """Models, what was learned, what was seen, and the words for prompts."""
    return [
        io.Model.Output(tooltip="The personalized model, for any sampler."),
        io.Clip.Output(tooltip="The text encoder, personalized where it was trained."),
        LORA_MODEL.Output("LORA_MODEL", tooltip="The adapter's tensors, for the stock Save LoRA Weights."),
        LOSS_MAP.Output("LOSS_MAP", tooltip="Loss of every step, for the stock Plot Loss Graph."),
        io.Image.Output(tooltip="The previews, the last one with the final weights; without Training Preview "
                                "the loss curve."),
        PERSONALIZATION.Output("PERSONALIZATION", tooltip="For Save Personalization."),
        io.String.Output("report", display_name="report", tooltip="What was done, and how often each photo "
                                                                 "was seen."),
        io.String.Output("identifier", display_name="identifier",
                         tooltip="How to write the subject in prompts: its identifier, or embedding:... where "
                                 "token vectors were learned; several subjects are separated by commas."),
        io.String.Output("class_noun", display_name="class_noun",
                         tooltip="What the subject is, for prompts and DCI; several are separated by commas."),
    ]


def _widgets() -> list[io.Input]:
    """How long, how fast and on what size it trains."""
    return [
        io.Int.Input("steps", default=0, min=0, max=1000000,
                     tooltip="Training steps in all. A longer run goes on from a shorter one. 0 (default): automatic, "
                             "by the number of photos and the model's recipe; the report tells the number."),
        io.Float.Input("learning_rate", default=0.0, min=0.0, max=0.1, step=0.000001, round=False,
                       tooltip="Learning rate of the adapter, up to 0.1. 0 (default): automatic, by the model's "
                               "recipe, which then gives rank and layers, too, where Training Options is left out."),
        io.Int.Input("batch", default=0, min=0, max=64,
                     tooltip="Photos per step, up to 64. Class images are added to this and need extra memory. "
                             "0 (default): automatic, by the model's recipe."),
        io.Int.Input("resolution", default=0, min=SIDE, max=2048, step=8,
                     tooltip="Photos are cropped to the centre and scaled to this many pixels, 64 to 2048, a "
                             "multiple of 8. 0 (default): automatic, what the model's family was trained at."),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                     tooltip="Seed of adapter, order, noise and timesteps. Same seed, same result on CPU."),
        io.String.Input("run_name", default="my_subject",
                        tooltip="Folder under output/personalize, a plain name. Only a label: other settings "
                                "under the same name get a folder with a suffix."),
    ]
