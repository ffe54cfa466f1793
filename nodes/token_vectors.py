"""The identifier's own vectors, learned beside an adapter or alone (Textual Inversion, arXiv:2208.01618)."""

from __future__ import annotations

from typing import get_args

from comfy_api.v0_0_2 import io

from ..core.learning.token_vectors import MOST, Norm, TokenVectorsConfig
from ..core.wording import clean_prompts
from .bridge.sockets import TOKEN_VECTORS, TokenVectorsSettings

STARTS = ["word", "random"]


class TokenVectors(io.ComfyNode):
    """Widgets to TOKEN_VECTORS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeTokenVectors",
            display_name="Token Vectors",
            category="personalize",
            description="Learns what the identifier means: vectors that take the place of its tokens in every prompt. "
                        "With training of the diffusion model turned off in Training Options this is Textual "
                        "Inversion. The result is an embedding file for stock prompts.",
            search_aliases=["textual inversion", "embedding", "learned token", "pivotal tuning", "concept token"],
            inputs=[
                io.String.Input("identifier", default="",
                                tooltip="Whose vectors: the identifier of one subject. Empty (default): every "
                                        "subject's."),
                io.Int.Input("vectors", default=2, min=1, max=MOST,
                             tooltip="Vectors per text encoder, 1 to 8. More hold more detail and leave less to the "
                                     "rest of the prompt. Default 2."),
                io.Combo.Input("start", options=STARTS, default="word",
                               tooltip="word (default): as the tokens of start_text, repeated where it has fewer; "
                                       "random: N(0, std)."),
                io.String.Input("start_text", default="{noun}",
                                tooltip="What the vectors mean at first; {noun} is the class noun (default), {V} the "
                                        "identifier's own tokens, embedding:name goes on from a file."),
                io.Float.Input("learning_rate", default=5e-4, min=1e-7, max=1.0, step=0.000001, round=False,
                               tooltip="Their own learning rate, 1e-7 to 1. Default 5e-4; 5e-3 alone on SD 1.5."),
                io.Float.Input("stop_at", default=1.0, min=0.01, max=1.0, step=0.05,
                               tooltip="Fraction of the run after which they stand still (pivotal tuning), 0.01 to 1. "
                                       "Default 1: to the end."),
                io.Combo.Input("norm", options=list(get_args(Norm)), default="free",
                               tooltip="free (default): any length. fixed: they keep the lengths they started with, so "
                                       "that they cannot outweigh the rest of the prompt."),
                io.Float.Input("std", default=0.02, min=0.0001, max=10.0, step=0.001, advanced=True,
                               tooltip="Deviation of a random start, above 0. Default 0.02, near CLIP's own; the "
                                       "pocket model's tokens have 0.3."),
                TOKEN_VECTORS.Input("token_vectors", optional=True,
                                    tooltip="Vectors of another subject, learned together with these."),
            ],
            outputs=[TOKEN_VECTORS.Output("TOKEN_VECTORS", tooltip="For Personalize Trainer.")],
        )

    @classmethod
    def execute(cls, identifier, vectors, start, start_text, learning_rate, stop_at, norm, std,
                token_vectors=None) -> io.NodeOutput:
        identifier, start_text = clean_prompts(identifier=identifier, start_text=start_text)
        config = TokenVectorsConfig(word="{V}", count=vectors, start=start, start_text=start_text, std=std,
                                    learning_rate=learning_rate, stop_at=stop_at, norm=norm)
        settings = TokenVectorsSettings(identifier=identifier.strip(), config=config)
        return io.NodeOutput((*(token_vectors or ()), settings))
