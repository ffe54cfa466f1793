"""A headless Chromium at the real frontend; the tests skip where there is none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyui_personalize.tools.comfyui_server import Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a Chromium on the path, one of: {', '.join(NAMES)}")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Server]:
    """A running server whose user has seen the first-run tutorial."""
    base = tmp_path_factory.mktemp("browser")
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"Comfy.TutorialCompleted": true, "Comfy.InstalledVersion": "1.47.12"}')
    with Server(base) as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator:
    """A browser context with a fresh profile; gone with its module, since Playwright keeps an event loop running."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        own_home = {**os.environ, "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile}
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=FLAGS, env=own_home, viewport={"width": 1900, "height": 1050})
        yield context
        context.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are kept until the next runs."""
    return tmp_path_factory.mktemp("screenshots")
