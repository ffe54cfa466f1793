"""Where everything is kept."""

from __future__ import annotations

from pathlib import Path

import folder_paths


def runs_root() -> Path:
    """Where all runs are kept: `personalize` in ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory()) / "personalize"
