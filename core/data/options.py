"""How the photos of one subject are shown to the network: shape, views, repeats, dropped captions.

They belong to a subject and not to the run: one subject may be mirrored, the other has writing on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import require

Shape = Literal["square", "buckets"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The DataOptions node. The defaults are one centred square view of every photo.

    Attributes:
        shape: "square" crops every photo to its centre; "buckets" keeps its aspect ratio, at about as many pixels.
        repeats: how often an epoch shows every photo of this subject.
        flip: whether mirrored views are shown as often as plain ones.
        views: crops per photo; the first is the centred one.
        jitter: how much smaller the other crops are, and how far off the centre, at most, as a fraction of the side.
        caption_dropout: how often a caption is replaced by an empty one.
        inpaint_masks: whether an inpainting model is to paint what the photos' masks mark, and not whole pictures.
    """

    shape: Shape = "square"
    repeats: int = 1
    flip: bool = False
    views: int = 1
    jitter: float = 0.1
    caption_dropout: float = 0.0
    inpaint_masks: bool = False

    def __post_init__(self) -> None:
        require(self.shape in get_args(Shape), "shape", repr(self.shape), "one of " + ", ".join(get_args(Shape)),
                "Choose one of them.")
        require(1 <= self.repeats <= 1000, "repeats", self.repeats, "1 to 1000", "Use 1.")
        require(1 <= self.views <= 64, "views", self.views, "1 to 64", "Use 1 for no crop jitter, or 8.")
        require(0 < self.jitter <= 0.5, "jitter", self.jitter, "above 0, up to 0.5", "Use 0.1.")
        require(0 <= self.caption_dropout < 1, "caption_dropout", self.caption_dropout, "0 or more, below 1",
                "Use 0.05 to 0.1, or 0.")

    def key_fields(self) -> dict[str, Any]:
        """Plain values, as run keys hold them: later options only where they are on, so that old runs keep theirs."""
        return {name: value for name, value in asdict(self).items() if name != "inpaint_masks" or value}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DataOptions:
        """The options whose plain values metadata holds."""
        return cls(**fields)
