"""An image-text encoder: pictures and prompts as vectors in one space (CLIP, arXiv:2103.00020)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.errors import require
from ..core.model.image_text import ImageTextEncoder as Encoder
from .bridge.notices import show_notice
from .bridge.queue.queue_checks import answer
from .bridge.sockets import IMAGE_TEXT_ENCODER
from .bridge.text.image_text import ComfyImageText, find_folder, load_folder


class ImageTextEncoder(io.ComfyNode):
    """From CLIP_VISION and CLIP, or a folder, to IMAGE_TEXT_ENCODER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeImageTextEncoder",
            display_name="Image-Text Encoder",
            category="personalize",
            description="One CLIP with both projections: it says how alike a picture and a text are. For prototypical "
            "embedding, class-characterizing regularisation, the class noun's suggestion and the CLIP figures.",
            search_aliases=["clip", "clip score", "clip vision", "image text", "similarity"],
            inputs=[
                io.ClipVision.Input("clip_vision", optional=True,
                                    tooltip="The image tower, from Load CLIP Vision. Needs clip as well."),
                io.Clip.Input("clip", optional=True,
                              tooltip="The text tower of the same CLIP, with its text projection (Load CLIP). A Stable "
                              "Diffusion checkpoint's CLIP has no projection and is refused; the pocket model's has."),
                io.String.Input("path", default="",
                                tooltip="Instead of both: folder of a transformers CLIP, absolute or in "
                                "models/clip_vision, or the word pocket. Empty (default): the sockets are used."),
            ],
            outputs=[IMAGE_TEXT_ENCODER.Output("IMAGE_TEXT_ENCODER", tooltip="Both towers and both projections.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, path=None) -> bool | str:
        return answer(("path", lambda text: text.strip() and find_folder(text.strip()), path))

    @classmethod
    def execute(cls, path="", clip_vision=None, clip=None) -> io.NodeOutput:
        path = (path or "").strip()
        encoder: Encoder
        if path:
            require(clip_vision is None and clip is None, "path", "a path beside connected towers", "one of them",
                    "Clear the path, or disconnect clip_vision and clip.")
            encoder = load_folder(path)
            show_notice(cls.hidden.unique_id, f"CLIP from {path}", [])
        else:
            towers = {"clip_vision": clip_vision, "clip": clip}
            missing = " and ".join(name for name, tower in towers.items() if tower is None)
            require(not missing, missing, "nothing", "clip_vision and clip, or a path",
                    "Connect Load CLIP Vision and Load CLIP, or give the folder of a transformers CLIP.")
            encoder = ComfyImageText(clip_vision, clip)
            show_notice(cls.hidden.unique_id, f"CLIP with {encoder.text_projection.shape[0]} dimensions", [])
        return io.NodeOutput(encoder)
