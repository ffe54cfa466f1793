"""A headless Chromium at the real editor, for the browser tests and the help pages' pictures."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]
SETTINGS = '{"Comfy.TutorialCompleted": true, "Comfy.InstalledVersion": "1.47.12"}'
"""Of a user who has seen the first-run tutorial."""
MINUTE = 60_000


def find_chromium() -> str | None:
    """The path of a Chromium, where there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def write_settings(base: Path) -> None:
    """Gives the user of a ComfyUI base directory that is made yet their settings."""
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(SETTINGS, encoding="utf-8")


@contextmanager
def open_browser(chromium: str) -> Iterator[Any]:
    """A browser context with a fresh profile."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        own_home: dict[str, str | float | bool] = {
            **os.environ, "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile}
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=FLAGS, env=own_home, viewport={"width": 1900, "height": 1050})
        yield context
        context.close()


def open_editor(context: Any, address: str) -> Any:
    """The editor's page, started."""
    page = context.pages[0]
    page.goto(address, timeout=2 * MINUTE)
    page.get_by_role("button", name="Templates").first.wait_for(timeout=2 * MINUTE)
    return page
