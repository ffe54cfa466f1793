"""`python FOLDER/fleet run plan.yaml`, from any working directory and whatever the extension's folder is called.

The package is known as `personalize_fleet`, so that no folder of the extension (`nodes`, `core`, `tests`) comes into
reach of other programs' imports.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

NAME = "personalize_fleet"


def load(folder: Path) -> None:
    """Make this folder importable as `personalize_fleet`."""
    spec = importlib.util.spec_from_file_location(NAME, folder / "__init__.py",
                                                  submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    load(Path(__file__).absolute().parent)
    sys.exit(importlib.import_module(f"{NAME}.command").main())
