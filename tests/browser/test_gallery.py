"""The real frontend loads every workflow from its template gallery, with nothing missing."""

from __future__ import annotations

import json

import pytest

from comfyui_personalize.tests.browser.conftest import EXTENSION, open_from_gallery
from comfyui_personalize.tools.browser import MINUTE
from comfyui_personalize.tools.install_comfyui import ROOT

WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
SHOWN = ("00", "03", "10", "15")
"""Seen in `make test`: four of the first six, the widest graph, other outputs."""
OWN_FILES = {"00b": ["UNETLoader", "CLIPLoader", "VAELoader"], "18": ["CLIPLoader"],
             **dict.fromkeys(("19", "20"), ["UNETLoader", "DualCLIPLoader", "VAELoader"])}
"""Workflows that name files which nobody can be sure to have, and the nodes that miss them."""
FIRST_SIX, READABLE = 0.6, 8 / 14
"""Zooms: what the first templates have at the least, and from where on the classic canvas draws a node's text."""


@pytest.fixture(scope="module")
def wrong_order(browser) -> None:
    """The server lists templates in the wrong order."""
    def reversed_lists(route):
        found = route.fetch().json()
        route.fulfill(json={name: sorted(names, reverse=True) for name, names in found.items()})

    browser.pages[0].route("**/workflow_templates", reversed_lists)


@pytest.fixture(scope="module")
def page(wrong_order, page):
    return page


def test_templates_are_in_the_order_of_their_numbers_however_the_server_lists_them(page):
    page.get_by_role("button", name="Templates").first.click()
    page.get_by_text(EXTENSION, exact=True).first.click(timeout=MINUTE)
    page.get_by_text(WORKFLOWS[0], exact=True).last.wait_for(timeout=MINUTE)
    shown = [line for line in page.get_by_role("dialog").inner_text().splitlines() if line in WORKFLOWS]
    assert list(dict.fromkeys(shown))[:6] == WORKFLOWS[:6]
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden", timeout=MINUTE)


@pytest.mark.parametrize("name", [
    name if name.startswith(SHOWN) else pytest.param(name, marks=pytest.mark.full) for name in WORKFLOWS])
def test_a_workflow_loads_from_the_gallery_as_the_api_form_says(page, screenshots, name):
    open_from_gallery(page, name)
    page.wait_for_timeout(1500)  # what is missing is looked for after loading
    page.screenshot(path=screenshots / f"{name}.png")

    text = page.evaluate("document.body.innerText")
    if name.split()[0] not in OWN_FILES:
        assert "errors found" not in text and "error found" not in text and "issing" not in text, text
    assert page.evaluate("window.app.graph.nodes.filter(node => node.has_errors || !node.constructor.nodeData "
                         "&& !node.type.includes('Note')).map(node => node.type)") == OWN_FILES.get(name.split()[0], [])
    sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert sent == json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    assert_apart(page.evaluate("window.app.graph.nodes.map(node => [node.title, ...node.boundingRect])"))
    assert_readable(page, name)


@pytest.fixture(scope="module")
def nodes_2(page):
    """The page with nodes drawn as elements."""
    page.evaluate("() => window.app.ui.settings.setSettingValueAsync('Comfy.VueNodes.Enabled', true)")
    yield page
    page.evaluate("() => window.app.ui.settings.setSettingValueAsync('Comfy.VueNodes.Enabled', false)")


@pytest.mark.full
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_loads_in_nodes_2_as_the_api_form_says(nodes_2, screenshots, name):
    open_from_gallery(nodes_2, name)
    nodes_2.wait_for_timeout(2000)  # elements are made, and what is missing is looked for
    nodes_2.screenshot(path=screenshots / f"{name} nodes 2.png")
    sent = nodes_2.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert sent == json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    if nodes_2.evaluate("window.app.graph.extra.linearMode === true"):
        return  # a form
    boxes = nodes_2.evaluate("""() => [...document.querySelectorAll('[data-node-id]')].map(element => {
        const { x, y, width, height } = element.getBoundingClientRect();
        return [window.app.graph.getNodeById(element.dataset.nodeId)?.title, x, y, width, height];
    })""")
    assert len(boxes) == nodes_2.evaluate("window.app.graph.nodes.length")
    assert_apart(boxes)


def assert_readable(page, name: str) -> None:
    """At once, and where the view is fitted: text is drawn, and all nodes are in sight."""
    least = FIRST_SIX if name in WORKFLOWS[:6] else READABLE
    assert page.evaluate("window.app.canvas.ds.scale") >= least
    if page.evaluate("window.app.graph.extra.linearMode === true"):
        return  # a form
    page.evaluate("window.app.canvas.deselectAll()")
    page.evaluate("window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(600)  # it moves there in 350 ms
    scale, low_quality = page.evaluate("[window.app.canvas.ds.scale, window.app.canvas.low_quality]")
    assert scale >= least and low_quality is False
    assert page.evaluate("""(() => {
        const [x, y, width, height] = window.app.canvas.visible_area;
        return window.app.graph.nodes.every(node => x <= node.pos[0] && node.pos[0] + node.size[0] <= x + width
            && y <= node.pos[1] && node.pos[1] + node.size[1] <= y + height);
    })()""")


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
