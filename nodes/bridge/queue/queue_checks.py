"""What a node says about its widgets while a graph is queued, before anything runs.

ComfyUI itself refuses missing inputs, other types, numbers out of range and unknown choices, each at its own input. It
leaves out the last two for inputs that `validate_inputs` names, and reports what that answers at *every* input that it
names. So nodes name texts alone, and numbers say what they take in their schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....core.errors import InputError
from ....core.wording import require_text

Check = tuple[str, Callable[[str], object], Any]
"""An input's name, what refuses a text, and the input as `validate_inputs` got it."""


def answer(*checks: Check) -> bool | str:
    """True, or the refusals of all texts that are there, one per line.

    None stands for one that is linked or missing.
    """
    refusals = []
    for name, check, given in checks:
        value = alone(given)
        try:
            if value is not None:
                require_text(name, value)
                check(value)
        except InputError as refusal:
            refusals.append(str(refusal))
    return "\n".join(refusals) or True


def alone(given: Any) -> Any:
    """An input that may come alone or, where a node takes lists, as the one element of one."""
    return given[0] if isinstance(given, list | tuple) and len(given) == 1 else given


class WholeSteps(int):
    """The least value of a number that goes in whole steps, for a schema's `min`.

    ComfyUI knows `min` and `max` but lets every number between two steps through; compared with this one, such a number
    is below the least. In JSON, and so for the frontend, it is a plain number.
    """

    step: int

    def __new__(cls, least: int, step: int) -> WholeSteps:
        made = super().__new__(cls, least)
        made.step = step
        return made

    def __gt__(self, value: int) -> bool:
        return int(self) > value or value % self.step != 0

    def __format__(self, _: str) -> str:
        return f"{int(self)}, or no multiple of {self.step}"

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.step


class ZeroOrWholeSteps(int):
    """The same, where 0 is allowed beside: it means automatic. In JSON it is 0."""

    least: int
    step: int

    def __new__(cls, least: int, step: int) -> ZeroOrWholeSteps:
        made = super().__new__(cls, 0)
        made.least, made.step = least, step
        return made

    def __gt__(self, value: int) -> bool:
        return value != 0 and (self.least > value or value % self.step != 0)

    def __format__(self, _: str) -> str:
        return f"{self.least} (0 is automatic), or no multiple of {self.step}"

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return self.least, self.step


SIDE = ZeroOrWholeSteps(64, 8)
"""The least side of a picture in pixels; 0 is automatic."""
