"""Training seen from the outside: the progress bar, interruption, the loss curve."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.utils
import numpy
import torch
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image, ImageDraw
from torch import Tensor

PREVIEW_SIDE = 512
HEARTBEAT = 20.0
"""Seconds after which progress is repeated; headless clients give up after 120 seconds of silence."""
CURVE_SIZE = (640, 400)
MARGIN = 40
MOST_DOTS = 600
"""Dots of a curve; a chart must not take longer than a step."""


class Progress:
    """ComfyUI's progress bar of the running node, one unit per training step."""

    def __init__(self, total: int):
        self.total, self.step = total, 0
        self._bar = comfy.utils.ProgressBar(total)

    def show(self, step: int, picture: Tensor | None = None) -> None:
        """Report a step, with a picture (1, H, W, 3) where there is one.

        Raises:
            InterruptProcessingException: a BaseException, when the user pressed cancel.
        """
        self.step = step
        preview = None if picture is None else ("JPEG", to_pil(picture[0]), PREVIEW_SIDE)
        self._bar.update_absolute(step, self.total, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    @contextmanager
    def heartbeat(self, seconds: float = HEARTBEAT) -> Iterator[None]:
        """Within the context the step is reported again and again, also while one step or preview takes minutes."""
        context, stop = get_executing_context(), threading.Event()

        def repeat() -> None:
            while context is not None and not stop.wait(seconds):
                # Not through the bar: its hook would take a cancel meant for the training thread.
                get_progress_state().update_progress(context.node_id, self.step, self.total, None)

        thread = threading.Thread(target=repeat, name="personalize-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def to_pil(picture: Tensor) -> Image.Image:
    """A picture (H, W, 3) in 0..1."""
    return Image.fromarray((picture.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def plot_losses(losses: Sequence[float], validation: Mapping[int, float] | None = None) -> Tensor:
    """The loss of every step as dots, its running mean as a line, and the validation loss by step as a line of
    squares: (1, 400, 640, 3) in 0..1, legible in grey."""
    width, height = CURVE_SIZE
    image = Image.new("RGB", CURVE_SIZE, "white")
    draw = ImageDraw.Draw(image)
    validated = sorted((validation or {}).items())
    top = max([*losses, *(loss for _, loss in validated), 1e-12])
    draw.line([(MARGIN, MARGIN), (MARGIN, height - MARGIN), (width - MARGIN, height - MARGIN)], fill="black")
    draw.text((4, MARGIN - 14), f"loss {top:.4g}", fill="black")
    draw.text((width - 3 * MARGIN, height - MARGIN + 8), f"step {len(losses)}", fill="black")

    def point(step: int, loss: float) -> tuple[float, float]:
        x = MARGIN + (width - 2 * MARGIN) * step / max(len(losses), 1)
        return x, height - MARGIN - (height - 2 * MARGIN) * loss / top

    every = max(1, len(losses) // MOST_DOTS)
    for step in range(0, len(losses), every):
        x, y = point(step + 1, losses[step])
        draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill="silver")
    means = running_means(losses)
    if len(means) > 1:
        draw.line([point(step + 1, means[step]) for step in range(0, len(means), every)], fill="blue", width=2)
    for x, y in (point(*entry) for entry in validated):
        draw.rectangle((x - 3, y - 3, x + 3, y + 3), fill="black")
    if len(validated) > 1:
        draw.line([point(*entry) for entry in validated], fill="black")
    if validated:
        draw.text((4 * MARGIN, MARGIN - 14), f"squares: held-out photos, last {validated[-1][1]:.4g}", fill="black")
    return torch.from_numpy(numpy.asarray(image).copy()).float()[None] / 255


def chart(losses: Sequence[float], validation: Mapping[int, float] | None = None) -> dict[str, Any]:
    """The same for web/training.js: at most `MOST_DOTS` points [step, loss] of each kind; what is not finite is left
    out, since JSON has no word for it."""
    every, means = max(1, -(-len(losses) // MOST_DOTS)), running_means(losses)
    steps = sorted({*range(every - 1, len(losses), every), *([len(losses) - 1] if losses else [])})
    return {"losses": _points((step + 1, losses[step]) for step in steps),
            "means": _points((step + 1, means[step]) for step in steps),
            "validation": _points(sorted((validation or {}).items()))}


def _points(pairs: Iterable[tuple[int, float]]) -> list[list[float]]:
    return [[step, float(f"{loss:.5g}")] for step, loss in pairs if math.isfinite(loss)]


def running_means(losses: Sequence[float]) -> list[float]:
    """Exponential means over about a tenth of the run; single steps jump with their timestep."""
    decay = 1 - 1 / max(1, len(losses) // 10)
    means: list[float] = []
    for loss in losses:
        means.append(loss if not means else decay * means[-1] + (1 - decay) * loss)
    return means
