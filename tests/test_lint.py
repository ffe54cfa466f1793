"""ruff and mypy find nothing, here and before each commit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from comfyui_personalize.tools.install_comfyui import HOME, PACKAGE_LINK, ROOT, link

PARTS = ("benchmarks", "core", "fleet", "nodes", "pocket", "tests", "tools")


def run(*command: str, **environment: str) -> None:
    """Run a checker in the checkout and show what it says where it fails."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env={**os.environ, **environment},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hooks_before_a_commit_run_here_and_download_nothing():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook for repository in config["repos"] for hook in repository["hooks"]}
    assert set(hooks) == {"ruff", "mypy"}
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/python -m ")
               for hook in hooks.values())


def test_ruff_finds_nothing():
    run("ruff", "check", "--cache-dir", str(HOME / "cache" / "ruff"), ".")


def test_mypy_finds_nothing():
    """The checkout is checked under its package name, through a link: relative imports need one; where it lies, and
    where scripts and rigs lie that are imported by plain name, stands in pyproject.toml (mypy_path)."""
    link(PACKAGE_LINK, ROOT)
    packages = [argument for part in PARTS for argument in ("-p", f"{PACKAGE_LINK.name}.{part}")]
    cache: Path = HOME / "cache" / "mypy"
    run("mypy", "--cache-dir", str(cache), *packages)
