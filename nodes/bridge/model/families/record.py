"""What is known of a family of models. Facts alone: how a model behaves is asked of the loaded model itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Lowest and highest resolution, in pixels, at which models of one shape were trained.

    Attributes:
        low: the lowest.
        high: the highest.
        channels: of the network's first level; None = of any.
        context: width of the text that the network reads; None = of any.
        is_v: whether it predicts v; None = either.
    """

    low: int
    high: int
    channels: int | None = None
    context: int | None = None
    is_v: bool | None = None

    def is_of(self, channels: int, context: int, is_v: bool) -> bool:
        """Whether a network of these widths and this prediction is of the shape."""
        return self.channels in (None, channels) and self.context in (None, context) and self.is_v in (None, is_v)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    Attributes:
        name: as its users say.
        recognises: whether ComfyUI's model (an object of `comfy.model_base`) is of the family.
        has_cross_attention: whether text is read in layers of its own, and by them alone, so that repeated text changes
            nothing; otherwise image and text attend jointly.
        resolutions: at which its models were trained; the first that fits counts.
        is_read_by_diffusers: whether `load_lora_weights` reads a LoRA of it; tests read it there.
        is_read_by_sd_scripts: whether kohya's sd-scripts, and programs that read its files, know the names in it.
        is_verified: whether tests train it at true structure.
        is_upscaler: whether it makes a picture larger instead of making one of a text.
        rigs: networks of true structure that tests train, by the tests' names, and what their users call them: a row
            each in docs/family_options.md.
    """

    name: str
    recognises: Callable[[Any], bool]
    has_cross_attention: bool
    resolutions: tuple[Resolution, ...] = ()
    is_read_by_diffusers: bool = True
    is_read_by_sd_scripts: bool = True
    is_verified: bool = True
    is_upscaler: bool = False
    rigs: Mapping[str, str] = field(default_factory=dict)
