"""Every language says all that the nodes and the scripts say, and nothing that they no longer say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from comfyui_personalize.nodes import NODES
from comfyui_personalize.tools import write_locales
from comfyui_personalize.tools.write_locales import LanguageError, as_text, catalogs, locale

OBJECT_INFO: dict[str, Any] = {info["name"]: info for info in (node.GET_NODE_INFO_V1() for node in NODES)}
CHINESE = re.compile(r"[一-鿿]")
SAME_IN_BOTH = {"CLIP", "VAE", "CFG", "Latent", "JSON", "alpha", "omega", "SNR gamma"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_files_are_what_the_schemas_and_the_scripts_say(language):
    """A text is new or was changed: translate it in tools/languages, then `make locales`."""
    folder = write_locales.LOCALES / language
    files = locale(OBJECT_INFO, catalogs()[language])
    assert {path.name for path in folder.iterdir()} == set(files)
    stale = [name for name, content in files.items() if (folder / name).read_text(encoding="utf-8") != as_text(content)]
    assert stale == []


def test_every_node_input_and_output_has_a_chinese_name_and_a_chinese_tooltip():
    translated = json.loads((write_locales.LOCALES / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    for node_id, info in OBJECT_INFO.items():
        entry = translated[node_id]
        assert CHINESE.search(entry["display_name"]) and CHINESE.search(entry["description"]), node_id
        inputs = {name: options for group in ("required", "optional")
                  for name, (_, *rest) in info["input"].get(group, {}).items() for options in [rest[0] if rest else {}]}
        for name, options in inputs.items():
            assert entry["inputs"][name]["name"], (node_id, name)
            assert bool(options.get("tooltip")) == bool(CHINESE.search(entry["inputs"][name].get("tooltip", "")))
        assert list(entry["outputs"]) == [str(index) for index in range(len(info["output"]))], node_id


def test_the_slots_that_an_input_grows_are_translated():
    slots = json.loads((write_locales.LOCALES / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert slots["PersonalizeSubjectPhotos"]["inputs"]["images_image1"]["name"] == "图像1"


@pytest.mark.parametrize("section", write_locales.SECTIONS)
def test_a_translation_is_chinese_and_keeps_what_stands_in_braces(section):
    for text, translated in catalogs()["zh"][section].items():
        assert CHINESE.search(translated) or translated in SAME_IN_BOTH, text
        assert sorted(set(re.findall(r"{\w*}", translated))) == sorted(set(re.findall(r"{\w*}", text))), text


def test_a_text_without_translation_and_a_translation_without_text_are_told():
    catalog = json.loads(json.dumps(catalogs()["zh"]))
    catalog["nodes"]["Old Node"] = catalog["nodes"].pop("Subject Photos")
    with pytest.raises(LanguageError) as told:
        locale(OBJECT_INFO, catalog)
    assert str(told.value).splitlines()[1:] == ["lacks nodes: Subject Photos", "stale nodes: Old Node"]


def test_a_description_shows_braces_and_a_tooltip_takes_them_as_they_are():
    node = locale(OBJECT_INFO)["nodeDefs.json"]["PersonalizePromptWithSubject"]
    assert "in which {'{'}V{'}'} becomes" in node["description"]
    assert "{V} is your subject's word" in node["inputs"]["prompt"]["tooltip"]
