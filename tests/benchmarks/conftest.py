"""Tests of the benchmarks import the rigs of core's tests (tiny_clip) by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
