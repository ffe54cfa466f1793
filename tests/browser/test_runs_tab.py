"""The tab Personalizations in the real editor: runs are listed, loaded, gone on with, compared, renamed and deleted."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from comfyui_personalize.core.store.run_notes import keep_thumbnail, note_run
from comfyui_personalize.core.store.runs import open_run, run_key
from comfyui_personalize.core.training.config import TrainingConfig
from comfyui_personalize.tools.browser import MINUTE
from comfyui_personalize.tools.install_comfyui import ROOT

pytestmark = pytest.mark.full  # a server and a browser of its own
WORKFLOW = next(iter(sorted((ROOT / "workflows").glob("*.json"))))
NAMES = ("my_dog", "Rex & (Bello)")


def make_run(root: Path, name: str, number: int) -> None:
    """A run of so many hundred steps, with everything that the list shows."""
    steps, run = 100 * number, open_run(root, name, run_key({"seed": number}))
    config = TrainingConfig(steps=steps, learning_rate=number * 1e-4)
    said = {"identifiers": ["sks"], "class_nouns": ["dog <i>here</i>"], "captions": ["a sks dog"], "readers": "ComfyUI",
            "base_model_hash": "m", "text_encoder_hash": "t", "exposure": "often"}
    for step in {100, steps}:
        run.save_adapter(step, {"x": torch.zeros(2000)}, said | {"steps": step, "config": config.to_dict()})
    rates = {"base_lrs": [0.1], "_last_lr": [0.1], "last_epoch": steps, "_step_count": steps + 1}
    losses = [1 / (step + 9) ** 0.5 for step in range(steps)]
    run.save_state(steps, {"x": torch.zeros(2)}, {"step": steps, "losses": losses, "lr_scheduler": rates,
                                                  "optimizer": {"param_groups": [], "entries": {}}})
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((512, 256)).save(picture, "JPEG")
    keep_thumbnail(run.folder, picture.getvalue())
    graph = {"prompt": {}, "workflow": json.loads(WORKFLOW.read_text(encoding="utf-8"))}
    note_run(run.folder, "pocket.safetensors", "", graph)


@pytest.fixture(scope="module")
def server(own_server):
    """No other file's runs are in its store."""
    return own_server


@pytest.fixture(scope="module")
def root(server) -> Path:
    """Two runs in the server's store."""
    root = server.base / "output" / "personalize"
    for number, name in enumerate(NAMES, 1):
        make_run(root, name, number)
    return root


@pytest.fixture(scope="module")
def page(page, root):
    """The editor with the tab open."""
    page.get_by_role("button", name="Personalizations").first.click()
    page.locator(".pz-run").first.wait_for(timeout=MINUTE)
    return page


def entry(page, name: str):
    return page.locator(".pz-run", has_text=name)


def test_the_list_shows_each_run_in_the_dark_and_in_the_light(page, screenshots):
    for palette in ("dark", "light"):
        page.evaluate("name => window.app.ui.settings.setSettingValueAsync('Comfy.ColorPalette', name)", palette)
        page.wait_for_timeout(500)
        page.screenshot(path=screenshots / f"runs {palette}.png")
        colours = page.evaluate("""() => ['.pz-tab', '.pz-run', '.pz-run button'].map(name => {
            const style = getComputedStyle(document.querySelector(name));
            return [style.color, style.backgroundColor];
        })""")
        assert all(text != ground for text, ground in colours), colours
    text = page.locator(".pz-tab").inner_text()
    for shown in (*NAMES, "dog <i>here</i> · pocket.safetensors", "100 steps", "200 steps"):
        assert shown in text
    assert page.locator(".pz-run img[src^=blob]").count() == 2


def test_words_filter_the_list(page):
    page.get_by_label("Search runs").fill("bello")
    assert page.locator(".pz-run").count() == 1
    page.get_by_label("Search runs").fill("no such run")
    assert "No run has these words." in page.locator(".pz-tab").inner_text()
    page.get_by_label("Search runs").fill("")


def test_a_run_or_a_step_of_it_is_loaded_into_the_graph(page):
    loaded = "() => window.app.graph.nodes.filter(n => n.type === 'PersonalizeLoad').map(n => n.widgets[0].value)"
    before = page.evaluate(loaded)
    entry(page, "my_dog").get_by_role("button", name="Load").click()
    entry(page, NAMES[1]).get_by_role("combobox").select_option("100")
    entry(page, NAMES[1]).get_by_role("button", name="Load").click()
    assert page.evaluate(loaded) == [*before, "run: my_dog", f"run: {NAMES[1]}, step 100"]


def test_a_list_that_is_drawn_again_keeps_the_focus_and_the_chosen_step(page, root):
    entry(page, NAMES[1]).get_by_role("button", name="Rename").focus()
    (root / "my_dog" / "notes.txt").write_text("mine" * 50_000)
    page.evaluate("window.app.api.dispatchCustomEvent('execution_success', {})")
    entry(page, "my_dog").get_by_text(re.compile(r"2\d\d kB")).wait_for(timeout=MINUTE)
    assert page.evaluate("document.activeElement.ariaLabel") == f"Rename: {NAMES[1]}"
    assert entry(page, NAMES[1]).get_by_role("combobox").input_value() == "100"


def test_an_answer_that_is_a_page_is_told_in_words(page):
    page.route("**/personalize/runs", lambda route: route.fulfill(status=500, content_type="text/html", body="<p>"))
    page.get_by_role("button", name="Refresh").click()
    page.locator(".p-toast-message", has_text="The server answered 500.").wait_for(timeout=MINUTE)
    page.unroute("**/personalize/runs")


def test_two_runs_are_compared_side_by_side_and_escape_closes(page, screenshots):
    for box in page.get_by_role("checkbox", name="Compare").all():
        box.check()
    page.get_by_role("button", name="Compare the two").click()
    dialog = page.locator("dialog.pz-dialog")
    dialog.wait_for(timeout=MINUTE)
    page.wait_for_timeout(300)
    page.screenshot(path=screenshots / "runs compared.png")
    differing = dialog.locator(".pz-differs tbody th").all_inner_texts()
    assert "learning rate" in differing and "resolution" not in differing
    assert "resolution" in dialog.locator("details").text_content() and dialog.locator("polyline").count() == 2
    page.keyboard.press("Escape")
    assert page.locator("dialog.pz-dialog").count() == 0


def test_going_on_opens_the_graph_of_the_run(page):
    entry(page, "my_dog").get_by_role("button", name="Go on").click()
    count = len(json.loads(WORKFLOW.read_text(encoding="utf-8"))["nodes"])
    page.wait_for_function("""count => window.app.graph.nodes.length === count
        && window.app.extensionManager.workflow.activeWorkflow.filename.startsWith('my_dog')""", arg=count,
                           timeout=MINUTE)


def test_a_run_is_renamed_and_deleted_by_keys_alone_after_a_question(page, root, screenshots):
    entry(page, "my_dog").get_by_role("button", name="Rename").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("textbox").fill("Ada")
    page.keyboard.press("Enter")
    entry(page, "Ada").wait_for(timeout=MINUTE)
    assert sorted(folder.name for folder in root.iterdir() if folder.name[0] != ".") == sorted(["Ada", NAMES[1]])
    remove = entry(page, "Ada").get_by_role("button", name="Delete")
    remove.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for(timeout=MINUTE)
    page.screenshot(path=screenshots / "runs delete.png")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden", timeout=MINUTE)
    assert (root / "Ada").exists() and page.locator(".pz-run").count() == 2
    for name in ("Ada", NAMES[1]):
        entry(page, name).get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        entry(page, name).wait_for(state="detached", timeout=MINUTE)
        assert not (root / name).exists()
    assert "Nothing here yet: a run appears as soon as Personalize from Photos or Personalize Trainer starts it." in \
        page.locator(".pz-tab").inner_text()
    page.screenshot(path=screenshots / "runs none.png")
