"""How the photos of a subject are shown to the network: aspect ratio, mirrored and jittered views, captions."""

from __future__ import annotations

from typing import get_args

from comfy_api.v0_0_2 import io

from ..core.data.options import DataOptions, Shape
from .bridge.sockets import DATA_OPTIONS


class DataOptionsNode(io.ComfyNode):
    """Widgets to DATA_OPTIONS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeDataOptions",
            display_name="Data Options",
            category="personalize",
            description="How the photos of one subject are cropped, mirrored, repeated and captioned. Belongs to a "
                        "subject: one may be mirrored, another has writing on it. Without this node: one centred "
                        "square view of each photo.",
            search_aliases=["aspect ratio buckets", "repeats", "flip", "augmentation", "crop jitter",
                            "caption dropout"],
            inputs=[
                io.Combo.Input("shape", options=list(get_args(Shape)), default="square",
                               tooltip="square (default): every photo is cropped to its centre. buckets: it keeps its "
                                       "aspect ratio, up to 1:1.75, at about as many pixels; a batch is of one shape."),
                io.Int.Input("repeats", default=1, min=1, max=1000,
                             tooltip="How often an epoch shows every photo of this subject, 1 to 1000. Default 1. More "
                                     "balance a subject of few photos against one of many."),
                io.Boolean.Input("flip", default=False,
                                 tooltip="Show mirrored views as often as plain ones. Default off. Leave it off for "
                                         "asymmetric subjects: a parting, a logo, writing, one odd ear."),
                io.Int.Input("views", default=1, min=1, max=64,
                             tooltip="Crops per photo, 1 to 64; the first is the centred one, the others are a little "
                                     "smaller and off the centre. Default 1. All are encoded once and kept on disk."),
                io.Float.Input("jitter", default=0.1, min=0.01, max=0.5, step=0.01,
                               tooltip="How much smaller the other crops are, and how far off the centre, at most, as "
                                       "a fraction of the side, 0.01 to 0.5. Default 0.1; does nothing at 1 view."),
                io.Float.Input("caption_dropout", default=0.0, min=0.0, max=0.95, step=0.01,
                               tooltip="How often a photo is shown with an empty caption, 0 to 0.95. Default 0; 0.05 "
                                       "to 0.1 keeps guidance working in long runs."),
                io.Boolean.Input("inpaint_masks", default=False, optional=True, advanced=True,
                                 tooltip="For inpainting models: what the photos' masks mark is what the model learns "
                                         "to paint. Default off: whole pictures, as it is sampled without a mask."),
            ],
            outputs=[DATA_OPTIONS.Output("DATA_OPTIONS", tooltip="For Subject Photos, Photos from Folder or "
                                                                 "Scene Photo.")],
        )

    @classmethod
    def execute(cls, shape, repeats, flip, views, jitter, caption_dropout, inpaint_masks=False) -> io.NodeOutput:
        return io.NodeOutput(DataOptions(shape=shape, repeats=repeats, flip=flip, views=views, jitter=jitter,
                                         caption_dropout=caption_dropout,
                                         inpaint_masks=inpaint_masks))
