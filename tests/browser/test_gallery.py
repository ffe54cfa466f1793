"""The real frontend loads every workflow from its template gallery, with nothing missing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from comfyui_personalize.tools.install_comfyui import ROOT

EXTENSION = "comfyui-personalize"
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
OWN_FILES = "00b"
"""Names files of a model that nobody can be sure to have."""
MINUTE = 60_000


@pytest.fixture(scope="module")
def page(browser, server) -> Iterator:
    """The editor, started."""
    page = browser.pages[0]
    page.goto(server.client.address, timeout=2 * MINUTE)
    page.get_by_role("button", name="Templates").first.wait_for(timeout=2 * MINUTE)
    yield page


def open_from_gallery(page, name: str) -> None:
    """What a user clicks: Templates, this extension, the card; app mode, which has no such button, is left before."""
    if page.evaluate("window.app.graph.extra.linearMode === true"):
        page.evaluate("() => window.app.extensionManager.command.execute('Comfy.ToggleLinear')")
    page.get_by_role("button", name="Templates").first.click()
    page.get_by_text(EXTENSION, exact=True).first.click(timeout=MINUTE)
    page.get_by_text(name, exact=True).last.click(timeout=MINUTE)
    page.get_by_role("dialog").wait_for(state="hidden", timeout=MINUTE)
    page.wait_for_function("name => window.app.extensionManager.workflow.activeWorkflow.filename.startsWith(name)",
                           arg=name, timeout=MINUTE)
    page.wait_for_timeout(1500)  # what is missing is looked for after loading


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_loads_from_the_gallery_as_the_api_form_says(page, screenshots, name):
    open_from_gallery(page, name)
    page.screenshot(path=screenshots / f"{name}.png")

    text = page.evaluate("document.body.innerText")
    if not name.startswith(OWN_FILES):
        assert "errors found" not in text and "error found" not in text and "issing" not in text, text
    assert page.evaluate("window.app.graph.nodes.filter(node => node.has_errors || !node.constructor.nodeData "
                         "&& !node.type.includes('Note')).map(node => node.type)") == (
        ["UNETLoader", "CLIPLoader", "VAELoader"] if name.startswith(OWN_FILES) else [])
    sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert sent == json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    assert_apart(page.evaluate("window.app.graph.nodes.map(node => [node.title, ...node.boundingRect])"))


def assert_apart(boxes) -> None:
    """No node lies on another: title, x, y, width, height of each."""
    for number, (title, x, y, width, height) in enumerate(boxes):
        for other, other_x, other_y, other_width, other_height in boxes[number + 1:]:
            apart_x = x + width <= other_x or other_x + other_width <= x
            assert apart_x or y + height <= other_y or other_y + other_height <= y, (title, other)


def test_every_node_shows_its_widgets_and_at_most_eight_of_them(page, server):
    own = [name for name, info in server.client.object_info().items() if info["category"] == "personalize"]
    for name in own:
        shown = page.evaluate("""type => {
            const node = window.LiteGraph.createNode(type);
            return node.widgets?.filter(w => !w.advanced && !w.options?.advanced && !w.hidden
                && !w.name.includes('control_after_generate')).map(w => w.name) ?? [];
        }""", name)
        assert len(shown) <= 8, (name, shown)
