"""The gallery's workflows run over HTTP on the pocket checkpoint, as they stand but for their sizes."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from comfyui_personalize.tests.e2e.conftest import nodes_of, workflow
from comfyui_personalize.tools.install_comfyui import ROOT


def pictures(server, graph, outputs):
    """The pictures of every Save Image node, by its title."""
    saved = {graph[number]["_meta"]["title"]: outputs[number]["images"] for number in nodes_of(graph, "SaveImage")}
    return {title: [Image.open(io.BytesIO(server.client.download(entry))) for entry in entries]
            for title, entries in saved.items()}


@pytest.mark.parametrize(("number", "titles"), [
    *((number, {"Your subject"}) for number in (0, 1, 2, 5, 6, 7, 8, 9)), (3, {"Plain", "With DCI"}),
    (4, {"Image to image", "Inpainting"}), (11, {"Personalized picture", "Four times as large"}),
    (15, {"Pictures", "Masks of the subject", "Masks by scale", "Masks by step"}),
    (16, {"Chart", "Sheet, personalized", "Sheet, before"})])
def test_a_workflow_ends_with_pictures(server, number, titles):
    graph = workflow(number)
    shown = pictures(server, graph, server.client.run(graph))
    assert shown.keys() == titles
    assert all(len(found) == 1 and found[0].getextrema() != ((0, 0),) * 3 for found in shown.values())


def test_the_gallery_lists_every_workflow_with_a_picture(server):
    listed = server.client.get("/workflow_templates")["comfyui-personalize"]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


def test_every_node_has_a_help_page(server):
    own = [name for name, info in server.client.object_info().items() if info["category"] == "personalize"]
    assert len(own) >= 11
    for name in own:
        with server.client.open(f"/extensions/comfyui-personalize/docs/{name}.md") as answer:
            assert answer.status == 200
            assert len(answer.read()) > 300
