"""Use a saved personalization again: the file brings its identifier and class noun with it."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from .bridge.files.embeddings import identifiers
from .bridge.files.personalizations import check_file, describe, file_state, list_personalizations, load_personalization
from .bridge.files.run_results import list_results
from .bridge.notices import show_notice
from .bridge.queue.fingerprints import fingerprint
from .bridge.queue.queue_checks import answer


class LoadPersonalization(io.ComfyNode):
    """A file, MODEL and CLIP to the personalized MODEL and CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeLoad",
            display_name="Load Personalization",
            category="personalize",
            description="Puts a saved personalization on MODEL and CLIP, and says by which words to call the subject. "
                        "Warns when the model is not the one it was trained on.",
            search_aliases=["load lora", "use personalization"],
            inputs=[
                io.Combo.Input("name", options=[*list_personalizations(), *list_results()],
                               tooltip="A file that Save Personalization wrote, or a run of Personalize Trainer: its "
                                       "newest result, or that of a step that was kept."),
                io.Model.Input("model", tooltip="The model that it was trained on."),
                io.Clip.Input("clip", tooltip="The text encoder that it was trained with."),
                io.Float.Input("strength_model", default=1.0, min=-10.0, max=10.0, step=0.05,
                               tooltip="How strongly the model is changed, -10 to 10; 0 = not at all. Default 1."),
                io.Float.Input("strength_clip", default=1.0, min=-10.0, max=10.0, step=0.05,
                               tooltip="How strongly the text encoder is changed, -10 to 10. Default 1."),
            ],
            outputs=[
                io.Model.Output(tooltip="The personalized model."),
                io.Clip.Output(tooltip="The personalized text encoder."),
                io.String.Output("identifier", display_name="identifier",
                                 tooltip="How to write the subject in prompts: the rare word, or embedding:... where "
                                         "token vectors were learned; several subjects are separated by commas."),
                io.String.Output("class_noun", display_name="class_noun", tooltip="What the subject is."),
                io.String.Output("report", display_name="report", tooltip="What the file is, and warnings."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        """Refuse a missing, pickled, corrupt or foreign file before anything runs."""
        return answer(("name", check_file, name))

    @classmethod
    def fingerprint_inputs(cls, name=None, **_) -> str | float:
        """A file that changed is loaded again."""
        return fingerprint(file_state, name)

    @classmethod
    def execute(cls, name, model, clip, strength_model, strength_clip) -> io.NodeOutput:
        model, clip, metadata, warnings = load_personalization(name, model, clip, strength_model, strength_clip)
        report = "\n".join([describe(metadata), *(f"Warning: {warning}" for warning in warnings)])
        show_notice(cls.hidden.unique_id, describe(metadata), warnings)
        return io.NodeOutput(model, clip, ", ".join(identifiers(metadata)), ", ".join(metadata["class_nouns"]),
                             report, ui=ui.PreviewText(report))
