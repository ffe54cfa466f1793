"""What ComfyUI shows of a run while it trains, what it samples for it, and what the user asks of it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import comfy.model_management
import psutil
import torch
from torch import Tensor

from ....core.training.status import Status, stopped
from ....core.training.trainer import Trainer
from ....core.training.watcher import Watcher
from ..notices import STOPPED, TRAINING, show_on_running_node, tell, warn_running_node
from ..progress import Progress, chart
from ..sampling.sampling import patched, sample_preview
from ..sockets import PreviewSettings
from .control import Control
from .previews import is_due, usual_preview
from .references import preview_references
from .request import Request
from .token_vectors import preview_of, with_vectors
from .validation import picture_figures, wants_pictures


@dataclass
class NodeWatcher(Watcher):
    """Shows a run on its node, and samples with ComfyUI's own samplers.

    Attributes:
        prepare: makes the models trainable again after a preview.
        control: what the user asks of it.
        pictures: the previews so far; not those that the user asked for.
    """

    cancels = (comfy.model_management.InterruptProcessingException,)
    unsaved = ("MODEL, CLIP and PERSONALIZATION have it until ComfyUI ends; free some space and keep it with Save "
               "Personalization, or queue the same graph again")

    request: Request
    trainer: Trainer
    bar: Progress
    prepare: Callable[[], None]
    control: Control
    pictures: list[Tensor] = field(default_factory=list)
    _new: Tensor | None = None
    _status: Status = field(init=False)

    def __post_init__(self) -> None:
        device = self.request.model.load_device
        self._status = Status(self.bar.total, lambda: memory_in_use(device))

    def preview(self, step: int) -> None:
        """Sample one picture, where it is time or one was asked for."""
        settings, is_asked = self.request.preview, self.control.takes_picture()
        if settings is not None and is_due(step, self.bar.total, settings.every):
            self._new = self._sample(settings)[0][None]
            self.pictures.append(self._new)
        elif is_asked:
            self._draw_now()

    def _draw_now(self) -> None:
        """Sample the picture that was asked for; where that fails, training goes on."""
        try:
            self._new = self._sample(self.request.preview or usual_preview(self.request))[0][None]
        except Exception as reason:  # noqa: BLE001 - out of memory, a sampler's own error, a recipe of the user's
            self.warn(f"no picture could be drawn, training goes on: {reason}")

    def picture_figures(self) -> dict[str, float]:
        """CLIP-I, CLIP-T and DINO, as far as there are encoders and a preview."""
        config, settings = self.request.config.validation, self.request.preview
        if config is None or settings is None or not wants_pictures(self.request):
            return {}
        return picture_figures(self.request, self._sample(settings, config.pictures))

    def progress(self, step: int, losses: Sequence[float], validation: Mapping[int, float]) -> None:
        """Show the step with its preview; each second how it goes, in words and as a chart.

        Raises:
            InterruptProcessingException: a BaseException, when the user cancelled, or asked for a pause.
        """
        picture, self._new = self._new, None
        if (line := self._status.line(step, losses)) is not None:
            show_on_running_node(line)
            self.control.shown = {"step": step, "of": self.bar.total, "line": line, "chart": chart(losses, validation),
                                  "drawing": self.control.is_asked, "pausing": self.control.is_paused}
            tell(TRAINING, run=self.control.run, draws=self.control.draws, **self.control.shown)
        self.bar.show(step, picture)
        if self.control.is_paused and step < self.bar.total:
            raise comfy.model_management.InterruptProcessingException()

    def memory(self) -> int:
        """Bytes, as `memory_in_use` counts them."""
        return memory_in_use(self.request.model.load_device)

    def stopped(self, step: int, kept: int) -> None:
        """Say on the node, and as a pop-up, where the run goes on."""
        text = stopped(step, self.bar.total, kept, "Paused" if self.control.is_paused else "Stopped")
        show_on_running_node(text)
        tell(STOPPED, text=text)
        self.control.is_told = True

    def warn(self, text: str) -> None:
        """Say it on the node."""
        warn_running_node(text)

    def _sample(self, settings: PreviewSettings, count: int = 1) -> list[Tensor]:
        """Pictures (H, W, 3) with the weights so far, at as many seeds.

        What trains is out meanwhile, and the base weights come back exactly. Another MODEL that samples pushes the
        trained one off the card where both do not fit, as in any graph.
        """
        self.trainer.eject()
        try:
            learned = self.trainer.export()
            model, clip = patched(self.request.sampling_model, self.request.clip, learned.adapter,
                                  min_rank=self.request.config.options.min_rank)
            clip, settings = with_vectors(clip, learned.token_vectors), preview_of(settings, learned.token_vectors)
            shown = preview_references(self.request)
            return [sample_preview(model, clip, self.request.vae, replace(settings, seed=settings.seed + number),
                                   self.request.config.resolution, shown)[0] for number in range(count)]
        finally:
            self.prepare()
            self.trainer.inject()


def memory_in_use(device: torch.device) -> int:
    """Bytes: the largest that training took on an NVIDIA card so far, or this process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)
