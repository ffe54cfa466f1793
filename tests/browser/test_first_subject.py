"""From the gallery to a picture of one's own subject: photos are chosen, a word is written, Run."""

from __future__ import annotations

import io
import json

from PIL import Image

from comfyui_personalize.tests.browser.conftest import open_from_gallery
from comfyui_personalize.tools.browser import MINUTE
from comfyui_personalize.tools.install_comfyui import ROOT

NAME = "00 Your subject in three edits"
PHOTOS = [ROOT / "workflows" / "photos" / f"personalize_dog_{number}.png" for number in (1, 2)]
FIND = "window.app.graph.nodes.find(node => node.type === 'PersonalizeFromPhotos')"


def test_from_the_gallery_to_a_picture_of_photos_that_were_chosen(page, server, screenshots):
    open_from_gallery(page, NAME)
    page.screenshot(path=screenshots / "your subject.png")
    assert page.evaluate("window.app.graph.nodes.length") <= 8
    assert page.evaluate("window.app.canvas.ds.scale") >= 0.6

    with page.expect_file_chooser(timeout=MINUTE) as chooser:
        page.evaluate(f"{FIND}.widgets.find(widget => widget.name === 'choose photos').callback()")
    chooser.value.set_files(PHOTOS)
    page.wait_for_function(f"{FIND}.widgets[0].value.startsWith('my_photos_')", timeout=MINUTE)
    (folder,) = (server.base / "input").glob("my_photos_*")
    assert sorted(path.name for path in folder.iterdir()) == [path.name for path in PHOTOS]

    page.evaluate(f"""() => {{
        const set = (name, value) => {{ {FIND}.widgets.find(widget => widget.name === name).value = value }};
        set("effort", "quick"); set("steps", 2); set("pictures", 1);
    }}""")
    sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    (inputs,) = (node["inputs"] for node in sent.values() if node["class_type"] == "PersonalizeFromPhotos")
    assert inputs["photos"] == folder.name and "choose photos" not in inputs
    page.evaluate("() => window.app.queuePrompt(0, 1)")
    page.wait_for_function("Object.values(window.app.nodeOutputs).some(output => output.images?.some("
                           "image => image.type === 'output'))", timeout=5 * MINUTE)
    page.screenshot(path=screenshots / "your subject, drawn.png")
    (saved,) = (server.base / "output").glob("personalize_*.png")
    with Image.open(io.BytesIO(saved.read_bytes())) as picture:
        assert picture.size == (96, 96) and picture.getextrema() != ((0, 0),) * 3


def test_the_app_opens_as_a_form_of_its_fields(page, screenshots):
    open_from_gallery(page, "00a Your subject as an app")
    page.get_by_text("what_is_it").first.wait_for(timeout=MINUTE)
    page.screenshot(path=screenshots / "as an app.png")
    assert page.evaluate("window.app.graph.extra.linearMode") is True


def test_the_blueprint_is_a_node_that_sends_what_is_inside(page):
    graph = json.loads((ROOT / "subgraphs" / "Your subject from photos.json").read_text(encoding="utf-8"))
    page.evaluate("graph => window.app.loadGraphData(graph, true, true, 'blueprint')", graph)
    page.wait_for_function("window.app.graph.nodes.length === 1", timeout=MINUTE)
    assert_a_warning_of_a_node_inside_bears_its_title(page)
    shown = page.evaluate("window.app.graph.nodes[0].widgets.map(widget => widget.name)")
    assert {"photos", "what_is_it", "prompt", "seed"} <= set(shown)
    assert page.evaluate("window.app.graph.nodes[0].inputs.slice(0, 3).map(socket => socket.type)") == [
        "MODEL", "CLIP", "VAE"]
    sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert {node["class_type"] for node in sent.values()} == {
        "PersonalizeFromPhotos", "PersonalizePromptWithSubject", "CLIPTextEncode", "KSampler", "VAEDecode"}


def assert_a_warning_of_a_node_inside_bears_its_title(page) -> None:
    page.evaluate("""() => {
        const outer = window.app.graph.nodes[0];
        const inner = outer.subgraph.nodes.find(node => node.type === 'PersonalizeFromPhotos');
        inner.title = 'My photos';
        const detail = { node: `${outer.id}:${inner.id}`, text: 'seen inside' };
        window.app.api.dispatchCustomEvent('personalize.warning', detail);
    }""")
    toast = page.locator(".p-toast-message", has_text="seen inside")
    toast.wait_for(timeout=MINUTE)
    assert "My photos" in toast.inner_text()
