"""A headless Chromium at the real frontend; the tests skip where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyui_personalize.tools.browser import NAMES, find_chromium, open_browser, write_settings
from comfyui_personalize.tools.comfyui_server import Server


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    found = find_chromium()
    if found is None:
        pytest.skip(f"needs a Chromium on the path, one of: {', '.join(NAMES)}")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Server]:
    """A running server whose user has seen the first-run tutorial."""
    base = tmp_path_factory.mktemp("browser")
    write_settings(base)
    with Server(base) as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator:
    """A browser context; gone with its module, since Playwright keeps an event loop running."""
    with open_browser(chromium) as context:
        yield context


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are kept until the next runs."""
    return tmp_path_factory.mktemp("screenshots")
