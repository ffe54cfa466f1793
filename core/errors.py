"""How bad input is told: the name, what came, what is expected, what to do."""

LONGEST_GOT = 1000
"""Characters of what came that a message repeats."""


class InputError(ValueError):
    """Input that cannot be used, found before anything was loaded or changed.

    Args:
        name: the input as the user knows it, e.g. ``"rank"``.
        got: what came, already readable.
        expected: what is accepted, with range and unit.
        fix: one sentence that says what to do.
    """

    def __init__(self, name: str, got: object, expected: str, fix: str):
        self.name, self.got, self.expected, self.fix = name, got, expected, fix
        super().__init__(f"{name}: got {_readable(got)}, expected {expected}. {fix}")


def _readable(got: object) -> str:
    """What came, as far as anyone would read it."""
    text = str(got)
    return text if len(text) <= LONGEST_GOT else f"{text[:LONGEST_GOT]}… ({len(text):,} characters)"


class TrainingDiverged(RuntimeError):
    """The loss or a weight became NaN or infinite; the last good state is kept by the caller."""


def require(condition: bool, name: str, got: object, expected: str, fix: str) -> None:
    """Raise `InputError` unless `condition` holds."""
    if not condition:
        raise InputError(name, got, expected, fix)
