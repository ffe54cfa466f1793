"""A user's regular expressions, matched so that none of them can take the server with it.

Python's `re` has no limit of time and holds the interpreter's lock while it searches: an expression such as
`(\\w+\\.?)+!`, which a shared workflow may carry, would freeze every thread for ever. The package `regex` has one;
transformers, which ComfyUI requires, brings it. The language stays that of `re`: what `re` does not read is refused,
and what `regex` would read in its own way is refused, or written as `re` means it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from math import prod

import regex

from .errors import InputError, require

SECONDS = 1.0
"""Time of the computing thread that all the matches of one text of the user may take together."""
LONGEST = 1000
"""Characters of one expression."""
LONGEST_WRITTEN_OUT = 100_000
"""Characters of one expression with its least counts {m} written out, as `regex` does: to gigabytes where they nest."""

_COUNT = re.compile(r"\{(\d*),?\d*\}")
_LITERAL_BRACE = re.compile(r"(\\.)|\{(?!\d+,?\d*\}|,\d*\})", re.DOTALL)
"""A brace that begins no count: a character for `re`, the start of a fuzzy match for `regex`."""
_POSIX_CLASS = re.compile(r"\[\^?:\^?\w*:\]")


def check_pattern(name: str, pattern: str, expected: str) -> None:
    """Refuse an expression that cannot be read, or that could not be matched within bounds.

    Args:
        name: the widget that holds it.
        expected: what the widget takes.

    Raises:
        InputError: it is too long, cannot be read, repeats too often.
    """
    require(len(pattern) <= LONGEST, name, f"an expression of {len(pattern):,} characters",
            f"at most {LONGEST:,} of them", "Write a shorter one.")
    _compiled(name, pattern, expected)


def matching(name: str, patterns: Iterable[str], texts: Iterable[str], *, whole: bool) -> dict[str, list[str]]:
    """For each expression the texts that match it: as a whole, or in any part.

    Args:
        name: the widget that holds the expressions.

    Raises:
        InputError: they cannot be read, or take longer than `SECONDS` together.
    """
    texts, end = list(texts), time.thread_time() + SECONDS
    found = {}
    for pattern in patterns:
        compiled = _compiled(name, pattern, "a regular expression")
        match = compiled.fullmatch if whole else compiled.search
        try:
            # The lock is kept: given back for every text, each of thousands would wait for it.
            found[pattern] = [text for text in texts
                              if match(text, timeout=max(end - time.thread_time(), 1e-6), concurrent=False)]
        except TimeoutError as error:
            raise InputError(name, f"{shortened(pattern)}, which takes longer than {SECONDS:g} s to match",
                             "an expression that is quick on every module path",
                             "Do not repeat what repeats already, as in (a+)+.") from error
    return found


def shortened(pattern: str) -> str:
    """A text of the user in quotes, at most 80 characters of it."""
    return repr(pattern if len(pattern) <= 80 else f"{pattern[:80]}…")


def _compiled(name: str, pattern: str, expected: str) -> regex.Pattern[str]:
    try:
        re.compile(pattern)
        written_out = len(pattern) * prod(int(least or 0) or 1 for least in _COUNT.findall(pattern))
        require(written_out <= LONGEST_WRITTEN_OUT, name, f"{shortened(pattern)}, whose counts {{...}} multiply",
                f"at most {LONGEST_WRITTEN_OUT:,} characters with its counts written out", "Use + or * instead.")
        require(not _POSIX_CLASS.search(pattern), name, shortened(pattern), "sets without [:name:]",
                "Write for example [a-z].")
        return regex.compile(_LITERAL_BRACE.sub(lambda found: found[1] or r"\{", pattern))
    except (re.error, regex.error, OverflowError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(name, shortened(pattern), expected, f"The expression cannot be read: {error}.") from error
