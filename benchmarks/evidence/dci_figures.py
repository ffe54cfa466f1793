"""What is looked at in the pictures of one cell of the DCI bench."""

from __future__ import annotations

from torch import Tensor

from ...pocket.subjects import NOUNS
from .bench import Case
from .dci_settings import ASKED, SEEDS
from .measures import alignment, answers, copying, cosine


def figures(pictures: Tensor, photos: Tensor, shown: Case) -> dict[str, float]:
    """Measures of pictures (prompts x `SEEDS`, 3, H, W), prompt by prompt; `places` and `colours` are parts of
    `alignment`."""
    seen, asked = answers(pictures), [prompt for prompt in ASKED for _ in range(SEEDS)]
    parts = {name: [row for row, prompt in enumerate(asked) if (prompt.colour is None) == (name == "places")]
             for name in ("places", "colours")}
    return {
        "fidelity": cosine(seen["identity"], answers(photos)["identity"]),
        "alignment": alignment(seen, asked),
        **{name: alignment({key: value[rows] for key, value in seen.items()}, [asked[row] for row in rows])
           for name, rows in parts.items()},
        "noun": float(seen["noun"][:, NOUNS.index(shown.subject.class_noun)].mean()),
        "copying": copying(seen["context"], asked, shown.contexts),
    }
