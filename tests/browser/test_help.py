"""The help panel of the real editor shows every node's page: its picture, no link into nothing, nothing cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_personalize.tools.browser import MINUTE

PAGES = sorted(path.stem for path in (Path(__file__).parents[2] / "web" / "docs").glob("*.md"))
ADD = """type => {
    const { graph, canvas } = window.app;
    graph.clear();
    const node = window.LiteGraph.createNode(type);
    node.pos = [600, 300];
    graph.add(node);
    canvas.selectNode(node);
}"""
SHOWN = """async () => {
    const panel = document.querySelector('.node-help-content');
    const pictures = [...panel.querySelectorAll('img')];
    await Promise.all(pictures.map(picture => picture.decode().catch(() => null)));
    return { pictures: pictures.map(picture => [new URL(picture.src).pathname.split('/').pop(), picture.naturalWidth]),
             links: [...panel.querySelectorAll('a')].map(link => link.getAttribute('href')),
             cut: [...panel.querySelectorAll('*'), panel].filter(part => part.scrollWidth > part.clientWidth + 1
                 && part.clientWidth && getComputedStyle(part).display !== 'inline').map(part => part.outerHTML) };
}"""

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def page(page):
    """The editor with the help of a node, opened as a user opens it."""
    for _ in range(6):  # the toolbox moves, and its menu closes, while the canvas settles
        page.evaluate(ADD, PAGES[0])
        page.wait_for_timeout(1500)
        page.get_by_test_id("more-options-button").click(timeout=MINUTE)
        page.wait_for_timeout(1500)
        if (entry := page.get_by_text("Node Info").first).is_visible():
            entry.click(timeout=MINUTE)
            break
        page.keyboard.press("Escape")
    page.locator(".node-help-content img").first.wait_for(timeout=MINUTE)
    return page


@pytest.mark.parametrize("node_id", PAGES)
def test_the_panel_shows_the_picture_and_all_of_the_page(page, screenshots, node_id):
    page.evaluate(ADD, node_id)
    page.locator(f".node-help-content img[src$='/{node_id}.png']").wait_for(timeout=MINUTE)
    shown = page.evaluate(SHOWN)
    page.screenshot(path=screenshots / f"help {node_id}.png")
    assert shown["pictures"][0][0] == f"{node_id}.png" and shown["pictures"][0][1] > 200
    assert [link for link in shown["links"] if not link.startswith("https://")] == [] and shown["cut"] == []
