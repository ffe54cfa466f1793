"""What is measured on a family's way through the server, and what of it is good."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

STEPS, PREVIEW_EVERY, CLASS_IMAGES = 4, 2, 2
LEAST_CHANGE = 1e-3
"""An adapter that changes the picture by less says nothing of how it is loaded."""
GOOD: dict[str, Callable[[Any], bool]] = {
    "class_images": lambda count: count == CLASS_IMAGES,
    "previews": lambda count: count == STEPS // PREVIEW_EVERY,
    "losses": lambda losses: len(losses) == STEPS and all(map(math.isfinite, losses)),
    "lora_keys": lambda keys: keys.split("/")[0] == keys.split("/")[1] != "0",
    "change": lambda share: share > LEAST_CHANGE,
    "picture_error": lambda error: error <= 1e-5,
    "same_pixels": lambda is_same: is_same,
    "preview_error": lambda levels: levels <= 1,
    "restored": lambda is_restored: is_restored,
}
"""Every figure of a journey, and whether it is good."""


def wrong(record: Mapping[str, Any]) -> list[str]:
    """The figures that are not good; a journey that ended early has but `fails`."""
    return ["fails"] if "fails" in record else [key for key, is_good in GOOD.items() if not is_good(record[key])]
