"""What a user may ask of a run while it trains: a picture now, or a pause after this step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Control:
    """One run that trains; asked by the server's threads, answered by the one that trains.

    Attributes:
        run: the key that it is found by.
        name: its label.
        node: id of the node that trains it.
        draws: whether it can sample a picture.
        shown: how it goes, as the node's chart takes it.
        is_told: whether the user was told where it goes on after a cancel.
    """

    run: str
    name: str
    node: str
    draws: bool = True
    shown: dict[str, Any] = field(default_factory=dict)
    is_told: bool = False
    _draw: threading.Event = field(default_factory=threading.Event)
    _pause: threading.Event = field(default_factory=threading.Event)

    def ask_picture(self) -> None:
        """A picture after the current step; asked twice before it comes, it comes once."""
        self._draw.set()

    def ask_pause(self) -> None:
        """The end after the current step, with everything kept."""
        self._pause.set()

    def takes_picture(self) -> bool:
        """Whether a picture is asked for; from then on it is not."""
        asked = self._draw.is_set()
        self._draw.clear()
        return asked

    @property
    def is_asked(self) -> bool:
        """Whether a picture is asked for and did not come yet."""
        return self._draw.is_set()

    @property
    def is_paused(self) -> bool:
        """Whether the run shall end."""
        return self._pause.is_set()


RUNNING: dict[str, Control] = {}
"""What trains in this process, by key."""


@contextmanager
def running(control: Control) -> Iterator[Control]:
    """Within the context the run can be asked."""
    RUNNING[control.run] = control
    try:
        yield control
    finally:
        RUNNING.pop(control.run, None)
