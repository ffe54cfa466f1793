"""The extension as ComfyUI's loader sees it: every node, its schema, its help page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from comfy_api.v0_0_2 import io
from PIL import Image

import comfyui_personalize
from comfyui_personalize.nodes import NODES
from comfyui_personalize.tools.help_pictures import FACE, PICTURES, face

ROOT = Path(comfyui_personalize.__file__).parent
every_node = pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)


def test_the_entry_point_hands_over_every_node_and_each_has_a_help_page():
    extension = asyncio.run(comfyui_personalize.comfy_entrypoint())
    ids = {node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())}
    assert ids == {page.stem for page in (ROOT / comfyui_personalize.WEB_DIRECTORY / "docs").glob("*.md")}
    assert len(ids) == len(NODES) and {"PersonalizeTrainer", "DCIConditioning", "IdentifierPicker"} <= ids


def test_no_old_style_mapping_hides_the_entry_point():
    assert not hasattr(comfyui_personalize, "NODE_CLASS_MAPPINGS")


@every_node
def test_every_input_and_output_has_a_tooltip_and_the_node_a_description(node):
    schema = node.GET_SCHEMA()
    assert schema.description and schema.display_name and schema.category == "personalize"
    assert [entry.id for entry in schema.inputs if not entry.tooltip] == []
    assert [entry.display_name for entry in schema.outputs if not entry.tooltip] == []


@every_node
def test_at_most_eight_widgets_are_in_sight(node):
    widgets = [entry for entry in node.GET_SCHEMA().inputs if isinstance(entry, io.WidgetInput)]
    assert len([entry for entry in widgets if not entry.advanced and not entry.force_input]) <= 8


@every_node
def test_every_number_has_a_range_and_a_default_inside_it(node):
    for entry in node.GET_SCHEMA().inputs:
        if isinstance(entry, io.Int.Input | io.Float.Input):
            assert entry.min <= entry.default <= entry.max, entry.id
        if isinstance(entry, io.Combo.Input) and entry.default is not None:
            assert entry.default in entry.options, entry.id


@every_node
def test_seeds_are_not_randomized_after_every_run(node):
    """The editor does that to any input named `seed` that does not refuse."""
    for entry in node.GET_SCHEMA().inputs:
        if "seed" in entry.id and isinstance(entry, io.Int.Input):
            assert entry.control_after_generate is False


@every_node
def test_a_class_noun_is_typed_once_since_every_other_one_can_be_linked(node):
    nouns = [entry for entry in node.GET_SCHEMA().inputs if entry.id == "class_noun"]
    assert all(isinstance(entry, io.String.Input) and not entry.socketless for entry in nouns)


@every_node
def test_every_node_has_a_help_page_that_names_every_widget(node):
    schema = node.GET_SCHEMA()
    page = ROOT / comfyui_personalize.WEB_DIRECTORY / "docs" / f"{schema.node_id}.md"
    text = page.read_text(encoding="utf-8")
    widgets = [entry.id for entry in schema.inputs if isinstance(entry, io.WidgetInput)]
    assert [widget for widget in widgets if widget not in text and widget.replace("_", " ") not in text] == []


@every_node
def test_a_help_picture_is_no_older_than_its_node(node):
    """The node's name, an input, a default or an output was changed: draw it again with `make help-pictures`."""
    info = node.GET_NODE_INFO_V1()
    assert Image.open(PICTURES / f"{info['name']}.png").info[FACE] == face(info)
