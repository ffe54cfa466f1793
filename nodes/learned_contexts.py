"""ICO: every photo gets learned contexts in place of a caption template (Jin et al., ECCV 2024, 3.2)."""

from __future__ import annotations

from typing import get_args

from comfy_api.v0_0_2 import io

from ..core.learning.token_vectors import MOST
from ..core.objectives.learned_contexts import LONGEST, PREFIX_WORDS, SUFFIX_WORDS, ContextStart, LearnedContexts
from ..core.wording import clean_prompts
from .bridge.sockets import OBJECTIVE, ObjectiveChain


class LearnedContextsNode(io.ComfyNode):
    """Numbers of vectors to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeLearnedContexts",
            display_name="Learned Contexts (ICO)",
            category="personalize",
            description="Replaces 'a {V} {noun}' by [prefix] V noun [suffix], learned for each photo: what is only in "
                        "that photo goes into its contexts and not into your subject. Only V is used afterwards. It "
                        "takes the place of the caption template; captions of single photos are refused.",
            search_aliases=["ico", "image-specific context optimization", "prompt tuning", "learned prompt"],
            inputs=[
                io.Int.Input("prefix", default=2, min=0, max=LONGEST,
                             tooltip="n, vectors before the subject, for each photo, 0 to 32. Default 2; the paper's "
                                     "code uses 2 to 4. More of both: a better balance, up to a point."),
                io.Int.Input("suffix", default=1, min=0, max=LONGEST,
                             tooltip="k, vectors behind the subject, for each photo, 0 to 32. Default 1."),
                io.Int.Input("identifier_vectors", default=2, min=0, max=MOST,
                             tooltip="m, vectors of V, shared by all photos, 0 to 8. Default 2. More: more like the "
                                     "photos, less editable. 0: V keeps its own tokens, or has Token Vectors."),
                io.Combo.Input("start", options=list(get_args(ContextStart)), default="words",
                               tooltip="words (default): contexts from prefix_words and suffix_words, V from "
                                       "identifier_words; random: N(0, std)."),
                io.Float.Input("rate_factor", default=10.0, min=0.01, max=1000.0, step=0.5,
                               tooltip="The contexts' learning rate in multiples of the trainer's, 0.01 to 1000. "
                                       "Default 10, as in the authors' code."),
                io.Float.Input("std", default=0.02, min=0.0001, max=10.0, step=0.001, advanced=True,
                               tooltip="Deviation of a random start, above 0. Default 0.02."),
                *_later(),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, prefix, suffix, identifier_vectors, start, rate_factor, std, identifier_rate_factor=None,
                prefix_words=PREFIX_WORDS, suffix_words=SUFFIX_WORDS, identifier_words="",
                objective=None) -> io.NodeOutput:
        prefix_words, suffix_words, identifier_words = clean_prompts(
            prefix_words=prefix_words, suffix_words=suffix_words, identifier_words=identifier_words)
        contexts = LearnedContexts(prefix=prefix, suffix=suffix, identifier_vectors=identifier_vectors, start=start,
                                   rate_factor=rate_factor, std=std, identifier_rate_factor=identifier_rate_factor,
                                   prefix_words=prefix_words, suffix_words=suffix_words,
                                   identifier_words=identifier_words)
        return io.NodeOutput((objective or ObjectiveChain()).extended(contexts))


def _later() -> list[io.Input]:
    """Widgets that came later. A prompt without them means what it meant before: V at the contexts' rate."""
    return [
        io.Float.Input("identifier_rate_factor", default=1.0, min=0.01, max=1000.0, step=0.5, optional=True,
                       advanced=True,
                       tooltip="V's learning rate in multiples of the trainer's, 0.01 to 1000. Default 1, as in the "
                               "authors' code."),
        io.String.Input("prefix_words", default=PREFIX_WORDS, optional=True,
                        tooltip="What the prefix starts from; its last words count, one for each vector. Default 'a "
                                "photo of a'. Only words that the text encoder knows: 'a' on the pocket model."),
        io.String.Input("suffix_words", default=SUFFIX_WORDS, optional=True,
                        tooltip="What the suffix starts from; its first words count. Default a full stop; 'on' on the "
                                "pocket model."),
        io.String.Input("identifier_words", default="", optional=True,
                        tooltip="Rare words that V's vectors start from, one for each: connect Identifier Picker with "
                                "tokens 3. Empty (default): the identifier's own tokens, repeated."),
    ]
