"""What a node says is text: shown as it was typed, and never markup, on the node, in a pop-up and in its report."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from comfyui_personalize.tools.browser import MINUTE

TYPED = ("<cat-toy>", "&lt;kept&gt;", '<a href="https://a.example/x">click</a>', "https://b.example/y?z=1&w=2",
         "www.c.example", "[[label|https://d.example]]", "<img src=x onerror=window.hurt=1>", "**bold**")
NOUN = " ".join(TYPED)
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "PersonalizeSubjectPhotos", "inputs": {
        "images.image0": ["1", 0], "identifier": "<cat-toy>", "class_noun": NOUN,
        "caption_template": "a {V} {noun} on the left", "data": ["6", 0]}},
    "3": {"class_type": "PersonalizeSubjectPrompts", "inputs": {
        "kind": "your own", "identifier": "<cat-toy>", "class_noun": NOUN, "count": 0, "templates": "a {V} {noun}"}},
    "4": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    "5": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    "6": {"class_type": "PersonalizeDataOptions", "inputs": {
        "shape": "square", "repeats": 1, "flip": True, "views": 1, "jitter": 0.1, "caption_dropout": 0.0}},
}
WARNING = "flip is on, but a caption says left or right ('a <cat-toy> <cat-toy> &lt;kept&gt;"


@pytest.mark.parametrize("nodes_2", [False, True], ids=["canvas", "nodes 2.0"])
def test_a_strangers_words_are_shown_as_typed_and_make_no_markup(page, screenshots, nodes_2):
    page.evaluate("on => window.app.ui.settings.setSettingValueAsync('Comfy.VueNodes.Enabled', on)", nodes_2)
    graph: Any = copy.deepcopy(GRAPH)
    graph["1"]["inputs"]["color"] = int(nodes_2)  # so that nothing comes from the cache
    page.evaluate("graph => window.app.loadApiJson(graph, 'notices')", graph)
    page.evaluate("() => window.app.queuePrompt(0, 1)")
    page.get_by_text("1 photos of").first.wait_for(timeout=MINUTE)
    page.locator(".p-toast-message", has_text=WARNING).first.wait_for(timeout=MINUTE)
    page.screenshot(path=screenshots / f"notices {nodes_2}.png")

    shown = page.evaluate("document.body.innerText")
    assert f"1 photos of 'a <cat-toy> {NOUN} on the left'\n" in shown and f"\nWarning: {WARNING}" in shown
    made = "a[href*=example], img[src=x], cat-toy, strong"
    assert page.evaluate(f"[...document.querySelectorAll('{made}')].map(found => found.outerHTML)") == []
    assert page.evaluate("window.hurt") is None
