"""A headless Chromium at the real frontend; the tests skip where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyui_personalize.tools.browser import MINUTE, NAMES, find_chromium, open_browser, open_editor, write_settings
from comfyui_personalize.tools.comfyui_server import Server

EXTENSION = "comfyui-personalize"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    found = find_chromium()
    if found is None:
        pytest.skip(f"needs a Chromium on the path, one of: {', '.join(NAMES)}")
    return found


def editor_server(base: Path) -> Iterator[Server]:
    """A running server whose user has seen the first-run tutorial."""
    write_settings(base)
    with Server(base) as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Server]:
    """The server of all files but those that count its runs or change its language."""
    yield from editor_server(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Server]:
    """A server of one file's own."""
    yield from editor_server(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator:
    """A browser context; gone with its module, since Playwright keeps an event loop running."""
    with open_browser(chromium) as context:
        yield context


@pytest.fixture(scope="module")
def page(browser, server) -> Iterator:
    """The editor, started, with nodes drawn on the canvas whatever another file chose."""
    page = open_editor(browser, server.client.address)
    page.set_default_timeout(2 * MINUTE)
    page.evaluate("() => window.app.ui.settings.setSettingValueAsync('Comfy.VueNodes.Enabled', false)")
    yield page


def open_from_gallery(page, name: str) -> None:
    """What a user clicks: Templates, this extension, the card; app mode, which has no such button, is left before."""
    if page.evaluate("window.app.graph.extra.linearMode === true"):
        page.evaluate("() => window.app.extensionManager.command.execute('Comfy.ToggleLinear')")
    page.get_by_role("button", name="Templates").first.click()
    gallery = page.get_by_role("dialog")  # nodes drawn as elements bear the extension's name, too
    gallery.get_by_text(EXTENSION, exact=True).first.click(timeout=MINUTE)
    page.get_by_text(name, exact=True).last.click(timeout=MINUTE)
    page.get_by_role("dialog").wait_for(state="hidden", timeout=MINUTE)
    page.wait_for_function("name => window.app.extensionManager.workflow.activeWorkflow.filename.startsWith(name)",
                           arg=name, timeout=MINUTE)


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are kept until the next runs."""
    return tmp_path_factory.mktemp("screenshots")
