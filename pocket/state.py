"""The one file from which training goes on: `POCKET_STATE`, outside the checkout, at most 60 MB.

A dictionary of one entry per network (`autoencoder`, `judge`, `generator`, `decoder`: what `Learner.state` gives). Of a
network that others rely on only the averaged weights stay (`freeze`), and it trains no more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import torch

MAX_BYTES: Final = 60 * 10**6
VARIABLE: Final = "POCKET_STATE"


def state_path(given: str | None = None) -> Path:
    """The path given, or the environment's, or `.pocket/pocket.state` of the working directory."""
    return Path(given or os.environ.get(VARIABLE) or ".pocket/pocket.state")


def load_state(path: Path) -> dict[str, Any]:
    """The state, or an empty one."""
    return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else {}


def save_state(path: Path, **entries: Any) -> None:
    """Replaces entries of the file atomically; a killed run never leaves half a file.

    Raises:
        ValueError: the file would be larger than `MAX_BYTES`; the old one is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(load_state(path) | entries, part)
    if part.stat().st_size > MAX_BYTES:
        size = part.stat().st_size
        part.unlink()
        raise ValueError(f"state: got {size} bytes, expected at most {MAX_BYTES}; {path} is left as it was")
    part.replace(path)


def check_room(path: Path, name: str, needed: int) -> None:
    """That a stage's state will fit, before it learns anything.

    Raises:
        SystemExit: with the command that makes room.
    """
    state = load_state(path)
    if name in state or not path.exists() or path.stat().st_size + needed <= MAX_BYTES:
        return
    open_ones = [other for other, entry in state.items() if "weights" in entry]
    raise SystemExit(f"state: got {path.stat().st_size} bytes and {needed} more for {name}, expected at most "
                     f"{MAX_BYTES}; what is finished gives half of its bytes free: --freeze {' '.join(open_ones)}")


def freeze(path: Path, *names: str) -> None:
    """Keeps of these networks, where they are, what use needs: they never change again."""
    state = load_state(path)
    kept = {name: {key: state[name][key] for key in ("average", "buffers", "step")} for name in names if name in state}
    if any("weights" in state[name] for name in kept):
        save_state(path, **kept)


def is_frozen(path: Path, name: str) -> bool:
    """Whether the state holds this network for use only."""
    entry = load_state(path).get(name)
    return entry is not None and "weights" not in entry
