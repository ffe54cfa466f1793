"""What ComfyUI shows of a run while it trains, and what it samples for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import comfy.model_management
import psutil
import torch
from torch import Tensor

from ....core.training.status import Status
from ....core.training.trainer import Trainer
from ....core.training.watcher import Watcher
from ..notices import show_on_running_node, warn_running_node
from ..progress import Progress, plot_losses
from ..sampling.sampling import patched, sample_preview
from ..sockets import PreviewSettings
from .references import preview_references
from .request import Request
from .token_vectors import preview_of, with_vectors
from .validation import picture_figures, wants_pictures

CHART_EVERY = 10
"""Steps between two charts of the loss while it trains, where no picture is shown."""


@dataclass
class NodeWatcher(Watcher):
    """Shows a run on its node, and samples with ComfyUI's own samplers.

    Attributes:
        prepare: makes the models trainable again after a preview.
        pictures: the previews so far.
    """

    cancels = (comfy.model_management.InterruptProcessingException,)
    unsaved = ("MODEL, CLIP and PERSONALIZATION have it until ComfyUI ends; free some space and keep it with Save "
               "Personalization, or queue the same graph again")

    request: Request
    trainer: Trainer
    bar: Progress
    prepare: Callable[[], None]
    pictures: list[Tensor] = field(default_factory=list)
    _new: Tensor | None = None
    _status: Status = field(init=False)

    def __post_init__(self) -> None:
        device = self.request.model.load_device
        self._status = Status(self.bar.total, lambda: memory_in_use(device))

    def preview(self, step: int) -> None:
        """Sample one picture, where it is time."""
        settings = self.request.preview
        if settings is not None and step % settings.every == 0:
            self._new = self._sample(settings)[0][None]
            self.pictures.append(self._new)

    def picture_figures(self) -> dict[str, float]:
        """CLIP-I, CLIP-T and DINO, as far as there are encoders and a preview."""
        config, settings = self.request.config.validation, self.request.preview
        if config is None or settings is None or not wants_pictures(self.request):
            return {}
        return picture_figures(self.request, self._sample(settings, config.pictures))

    def progress(self, step: int, losses: Sequence[float], validation: Mapping[int, float]) -> None:
        """Show the step with its preview, or now and then the chart; each second how it goes, in words."""
        picture, self._new = self._new, None
        if self.request.preview is None and losses and step % CHART_EVERY == 0:
            picture = plot_losses(losses, validation)
        if (line := self._status.line(step, losses)) is not None:
            show_on_running_node(line)
        self.bar.show(step, picture)

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
