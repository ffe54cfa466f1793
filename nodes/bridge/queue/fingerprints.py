"""What `fingerprint_inputs` says of a widget that names files, so that ComfyUI runs a node again when they change.

ComfyUI asks for it at every node of a graph, those among them whose inputs it has refused, and without what is linked.
"""

from __future__ import annotations

from collections.abc import Callable

from ....core.errors import InputError
from ....core.wording import require_text
from .queue_checks import alone


def fingerprint(state: Callable[[str], str], given: object) -> str | float:
    """The state of what a text names, or why it has none; never the same twice for a text that another node gives.

    Args:
        state: changes whenever the named files do; raises `InputError` or `OSError`.
        given: as `fingerprint_inputs` got it: a text, None where it is linked, or anything that came over the API.
    """
    name = alone(given)
    if name is None:
        return float("nan")
    try:
        require_text("name", name)
        return state(str(name))
    except (InputError, OSError) as reason:
        return str(reason)
