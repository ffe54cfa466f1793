"""What the editor says of ours: a mistake once, with a way to its node; a run that trains as a chart with buttons."""

from __future__ import annotations

import re
from typing import Any

import pytest

from comfyui_personalize.tests.e2e.conftest import nodes_of, only, training
from comfyui_personalize.tools.browser import MINUTE

NO_NAME = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "PrimitiveString", "inputs": {"value": " "}},
    "3": {"class_type": "PersonalizeSubjectPhotos", "inputs": {
        "images.image0": ["1", 0], "identifier": ["2", 0], "class_noun": "dog",
        "caption_template": "a {V} {noun}"}},
    "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
}


def run(page, graph: Any) -> None:
    """Open a graph and press Run."""
    page.evaluate("graph => window.app.loadApiJson(graph, 'training')", graph)
    page.evaluate("() => { window.app.queuePrompt(0, 1); }")


def message(page, text: str):
    return page.locator(".personalize-message", has_text=re.compile(text))


def plain_training(name: str) -> Any:
    """Training on photos alone, longer than any test waits."""
    graph = training(name, steps=40_000)
    (trainer,) = nodes_of(graph, "PersonalizeTrainer")
    del graph[trainer]["inputs"]["objective"]
    return only(graph, trainer)


def test_a_mistake_is_told_once_without_a_path_and_its_node_is_shown(page, server, screenshots):
    run(page, NO_NAME)
    told = message(page, "an empty text")
    told.wait_for(timeout=MINUTE)
    page.wait_for_timeout(1500)  # whatever else would be shown
    page.screenshot(path=screenshots / "mistake.png")
    shown = page.evaluate("document.body.innerText")
    assert told.count() == 1 and shown.count("an empty text") == 1 and "threw an error" not in shown
    assert str(server.base) not in shown and "Traceback" not in shown and ".core." not in shown
    assert told.locator("h3").inner_text() == "Subject Photos: identifier"

    page.evaluate("() => { window.app.canvas.ds.offset = [5000, 5000]; }")
    told.get_by_role("button", name="Show node").click()
    selected, off = page.evaluate("""() => {
        const canvas = window.app.canvas, node = window.app.graph.nodes.find(one => one.type.includes("SubjectPhotos"));
        const [x, y, width, height] = canvas.visible_area, [left, top, wide, high] = node.boundingRect;
        return [Object.values(canvas.selected_nodes).map(one => one.type),
                Math.hypot(x + width / 2 - left - wide / 2, y + height / 2 - top - high / 2)];
    }""")
    assert selected == ["PersonalizeSubjectPhotos"] and off < 60


@pytest.mark.parametrize("nodes_2", [False, pytest.param(True, marks=pytest.mark.full)], ids=["canvas", "nodes 2.0"])
def test_a_run_draws_now_pauses_goes_on_and_is_stopped(page, server, screenshots, nodes_2):
    page.evaluate("on => window.app.ui.settings.setSettingValueAsync('Comfy.VueNodes.Enabled', on)", nodes_2)
    graph = plain_training(f"browser_{nodes_2}")
    run(page, graph)
    panel = page.locator(".personalize-training")
    panel.locator(".mean").wait_for(state="attached", timeout=3 * MINUTE)
    assert panel.count() == 1
    page.evaluate("""() => window.app.canvas.centerOnNode(
        window.app.graph.nodes.find(node => node.type === "PersonalizeTrainer"))""")

    page.evaluate("""() => { window.pictures = 0;
        window.app.api.addEventListener("b_preview", () => { window.pictures += 1; }, { once: true }); }""")
    panel.get_by_role("button", name="Draw now").click()
    page.wait_for_function("window.pictures === 1", timeout=MINUTE)
    panel.get_by_role("button", name="Draw now").wait_for(timeout=MINUTE)
    page.screenshot(path=screenshots / f"training {nodes_2}.png")

    panel.get_by_role("button", name="Pause after this step").click()
    paused = message(page, r"Paused at step \d+ of 40000, kept\. Press Run to go on")
    paused.wait_for(timeout=MINUTE)
    assert not panel.get_by_role("button", name="Draw now").is_visible()
    page.screenshot(path=screenshots / f"paused {nodes_2}.png")
    first = int(re.search(r"step (\d+)", paused.inner_text())[1])

    page.evaluate("() => { window.app.queuePrompt(0, 1); }")
    panel.get_by_role("button", name="Pause after this step").wait_for(timeout=2 * MINUTE)
    page.wait_for_timeout(1500)
    page.evaluate("() => window.app.api.interrupt()")
    stopped = message(page, r"Stopped at step \d+ of 40000, kept\. Press Run to go on")
    stopped.wait_for(timeout=MINUTE)
    page.wait_for_timeout(1000)
    page.screenshot(path=screenshots / f"stopped {nodes_2}.png")
    assert int(re.search(r"step (\d+)", stopped.inner_text())[1]) > first
    shown = page.evaluate("document.body.innerText")
    assert "ailed" not in shown and len(re.findall(r"Stopped at step", stopped.inner_text())) == 1
