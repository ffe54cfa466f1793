"""A prompt in which {V} is the subject that was learned."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..core.errors import require
from ..core.subject.prompts import check_places, fill_subjects
from ..core.wording import clean_prompt
from .bridge.queue.queue_checks import answer
from .bridge.sampling.sampling import conditioning
from .bridge.sockets import PERSONALIZATION
from .bridge.training.token_vectors import subject_texts


class PromptWithSubject(io.ComfyNode):
    """CLIP, PERSONALIZATION and a text with {V} to CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizePromptWithSubject",
            display_name="Prompt with Subject",
            category="personalize",
            description="Encodes a prompt in which {V} becomes the word that means your subject, and {noun} what it "
                        "is. It refuses a prompt without {V}, which would not show your subject.",
            search_aliases=["prompt", "text encode", "trigger word", "personalize"],
            inputs=[
                io.Clip.Input("clip", tooltip="The personalized text encoder."),
                PERSONALIZATION.Input("personalization", optional=True,
                                      tooltip="What was learned: from Personalize from Photos or Personalize Trainer."),
                io.String.Input("prompt", multiline=True, default="a {V} {noun} in the snow",
                                tooltip="What to draw. {V} is your subject's word, {noun} what it is; of several "
                                        "subjects {V1} {noun1}, {V2} {noun2} and so on."),
                io.String.Input("identifier", optional=True, force_input=True,
                                tooltip="Optional. Instead of personalization: the identifier of Load "
                                        "Personalization."),
                io.String.Input("class_noun", optional=True, force_input=True,
                                tooltip="Optional. Beside identifier: what it is."),
            ],
            outputs=[
                io.Conditioning.Output(tooltip="For the sampler's positive prompt."),
                io.String.Output("prompt", display_name="prompt", tooltip="The prompt as it is encoded."),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt=None) -> bool | str:
        """Refuses a typed prompt without {V} when the graph is queued."""
        return answer(("prompt", check_places, prompt))

    @classmethod
    def execute(cls, clip, prompt, personalization=None, identifier=None, class_noun=None) -> io.NodeOutput:
        prompt, identifier, class_noun = (text and clean_prompt(text, name) for name, text in (
            ("prompt", prompt), ("identifier", identifier), ("class_noun", class_noun)))
        require(clip is not None, "clip", "nothing", "a CLIP", "Connect the personalized one.")
        require((personalization is None) != (identifier is None), "personalization",
                "nothing" if identifier is None else "both personalization and identifier",
                "either what was learned, or its identifier", "Connect one of the two.")
        if personalization is None:
            names, nouns = identifier, class_noun or ""
        else:
            names, nouns = subject_texts(personalization), ",".join(personalization.metadata["class_nouns"])
        text = fill_subjects(prompt, names.split(","), nouns.split(","))
        return io.NodeOutput(conditioning(clip, text), text, ui=ui.PreviewText(text))
