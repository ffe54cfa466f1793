"""Who looks on while a run trains: shows it, samples from it, measures what it samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence


class Watcher:
    """Shows nothing, measures nothing and logs its warnings; a subclass overrides what its user interface can do.

    Attributes:
        cancels: exceptions of `progress` by which the user ends a run.
        unsaved: what the user can do with a result that the disk would not take.
    """

    cancels: tuple[type[BaseException], ...] = ()
    unsaved = "it is lost when this process ends; free some space, and start the same run again"

    def preview(self, step: int) -> None:
        """Sample from the weights of a step that is not the last, where it is time."""

    def picture_figures(self) -> dict[str, float]:
        """Figures of pictures that are sampled from the weights so far, by name; none where nothing measures them."""
        return {}

    def progress(self, step: int, losses: Sequence[float], validation: Mapping[int, float]) -> None:
        """Show the step that was reached, the loss of every step and the validation losses by step.

        Raises:
            BaseException: one of `cancels`.
        """

    def memory(self) -> int | None:
        """Bytes in use where it trains; None where nobody counts them."""
        return None

    def stopped(self, step: int, kept: int) -> None:
        """Tell that the user ended the run after a step, and from which step it goes on; 0 = from the start."""

    def warn(self, text: str) -> None:
        """Tell the user at once."""
        logging.warning("%s", text)
