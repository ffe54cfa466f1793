"""Keep a personalization among ComfyUI's LoRAs, with everything about it inside the file."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..core.store.files import read_metadata
from .bridge.files.personalizations import check_name, describe, save_personalization
from .bridge.queue.queue_checks import answer
from .bridge.sockets import PERSONALIZATION


class SavePersonalization(io.ComfyNode):
    """PERSONALIZATION to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeSave",
            display_name="Save Personalization",
            category="personalize",
            description="Saves the adapter into ComfyUI's LoRA folder, where Load Personalization and the stock Load "
                        "LoRA find it, and learned token vectors into its embeddings folder, where embedding:name "
                        "finds them; diffusers and kohya's programs read both, too.",
            search_aliases=["save lora", "export"],
            is_output_node=True,
            inputs=[
                PERSONALIZATION.Input("personalization", tooltip="From Personalize Trainer."),
                io.String.Input("name", default="personalize/my_subject",
                                tooltip="File name below models/loras, without ending; / makes a folder. A file of "
                                        "other content is never replaced: the new one gets a suffix."),
            ],
            outputs=[io.String.Output("file", display_name="file", tooltip="The file's path.")],
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        """Refuse a bad name before anything runs."""
        return answer(("name", check_name, name))

    @classmethod
    def execute(cls, personalization, name) -> io.NodeOutput:
        path = save_personalization(personalization, name)
        return io.NodeOutput(str(path), ui=ui.PreviewText(f"{path}\n{describe(read_metadata(path))}"))
