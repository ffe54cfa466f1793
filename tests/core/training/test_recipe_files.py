"""Recipes are files: each value has a source, a model finds its own, and the user's win."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training import recipe_files
from comfyui_personalize.core.training.recipe import VALUES, Recipe
from comfyui_personalize.core.training.recipe_files import FOLDER, ModelFacts, read_recipe, recipe

FILES = sorted(FOLDER.glob("*.json"))
KINDS = ("published: ", "model card: ", "preset: ", "ours: measured on ", "assumed: ")
SDXL = ModelFacts(classes=["SDXL"])
DOCS = Path(__file__).parents[3] / "docs" / "recipes.md"
HEADER = """# Recipes

Written by `WRITE_DOCS=1 pytest tests/core/training/test_recipe_files.py` from `core/training/recipes/*.json`. What to
begin with in each family of models; the report of **Personalize Trainer** names the recipe of the loaded model and
where your settings are others. Rates are those of an adapter whose alpha is its rank; peers count differently, so
that a published figure is a beginning and no promise. No value was measured on these models by this project, unless
its source says so: *published* (a paper, a script, a guide), *model card*, *preset* (what a program ships),
*ours: measured on*, *assumed*.

## Your own

Put a JSON file into `personalize/recipes` in ComfyUI's user folder. It wins over ours where it fits, and may say a few
values alone; the others stay ours.

```json
{
  "version": 1,
  "name": "our house style on SDXL",
  "models": ["SDXL"],
  "file_words": ["housemodel"],
  "values": {
    "learning_rate": 0.0002,
    "rank": {"value": 32, "source": "measured on our own photos, March"}
  }
}
```

- `models`: names of ComfyUI's model classes (in `comfy/supported_models.py`), for example `SDXL`, `Flux`, `ZImage`.
- `file_words`: one of them must be in the name of the model's file; left out, any file will do. Where several recipes
  fit, the nearest class counts first, then the longest word.
- `shape`: settings of the network that must be so, for example `{"guidance_embed": true}`; `prediction` is EPS,
  V_PREDICTION, FLOW or FLUX.
- `advice`: a sentence for the report.

A file that cannot be used is named in a warning, with what is wrong in it, and no recipe is told.
"""


def write(folder, stem="mine", **content):
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}.json"
    path.write_text(json.dumps({"version": 1, "models": ["SDXL"], "values": {"rank": 64}} | content), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_of_every_recipe_is_there_with_a_source_of_a_known_kind(path):
    found = read_recipe(path)
    assert found.values.keys() == set(VALUES)
    assert {name for name, source in found.sources.items() if not source.startswith(KINDS)} == set()
    assert all(len(source) > len("published: ") for source in found.sources.values())
    assert isinstance(recipe_files._complete(found), Recipe)


def test_the_recipes_are_told_apart_by_name_and_by_what_they_fit():
    found = [read_recipe(path) for path in FILES]
    assert len({each.name for each in found}) == len(found)
    fits = [(each.models, tuple(each.shape.items()), each.file_words) for each in found]
    assert len(set(fits)) == len(fits)


@pytest.mark.parametrize(("classes", "file", "shape", "name"), [
    (["SDXL"], "sd_xl_base_1.0.safetensors", {}, "SDXL"),
    (["SDXL"], "ponyDiffusionV6XL.safetensors", {}, "SDXL descendants that read tags (Pony, Illustrious, NoobAI)"),
    (["KOALA_1B", "SDXL"], "", {}, "SDXL"),
    (["ZImage", "Lumina2"], "z_image_turbo_bf16.safetensors", {}, "Z-Image Turbo"),
    (["ZImage", "Lumina2"], "z_image_bf16.safetensors", {}, "Z-Image"),
    (["Lumina2"], "", {}, "Lumina-Image 2"),
    (["Krea2"], "krea2_turbo_fp8_scaled.safetensors", {}, "Krea 2 Turbo"),
    (["Krea2"], "raw.safetensors", {}, "Krea 2 Raw"),
    (["Flux2", "Flux"], "flux-2-klein-base-4b.safetensors", {"guidance_embed": False}, "Flux.2 klein base"),
    (["Flux2", "Flux"], "flux-2-klein-4b.safetensors", {"guidance_embed": False}, "Flux.2 klein (distilled)"),
    (["Flux2", "Flux"], "flux2_dev_fp8mixed.safetensors", {"guidance_embed": True}, "Flux.2 dev"),
    (["Flux"], "flux1-krea-dev_fp8_scaled.safetensors", {"guidance_embed": True}, "Flux.1 Krea dev"),
    (["Flux"], "flux1-dev-kontext_fp8_scaled.safetensors", {"guidance_embed": True}, "Flux.1 Kontext dev"),
    (["SD20"], "", {"prediction": "V_PREDICTION"}, "Stable Diffusion 2.1 (768, v)"),
    (["SD20"], "", {"prediction": "EPS"}, "Stable Diffusion 2.1 base (512)"),
    (["PocketModel", "SD15"], "", {}, "the pocket model"), (["SD15"], "", {}, "Stable Diffusion 1.5"),
    (["HiDream"], "hidream_i1_fast_fp8.safetensors", {}, "HiDream-I1 Fast"),
    (["QwenImage"], "qwen_image_edit_2509_fp8_e4m3fn.safetensors", {}, "Qwen-Image-Edit"),
    (["Nobody"], "pony.safetensors", {}, "any other family"), ([], "", {}, "any other family")])
def test_a_recipe_is_found_by_the_nearest_class_the_shape_and_the_files_name(classes, file, shape, name):
    assert recipe(ModelFacts(classes=classes, shape=shape, file=file)).name == name


def test_a_recipe_of_the_users_wins_and_leaves_the_values_that_it_does_not_say(tmp_path):
    write(tmp_path, "house", values={"rank": 64, "learning_rate": {"value": 2e-4, "source": "tried in March"}})
    mine, ours = recipe(SDXL, tmp_path), recipe(SDXL)
    assert (mine.name, mine.rank, mine.learning_rate) == ("house", 64, 2e-4)
    assert (mine.resolution, mine.sources["resolution"]) == (ours.resolution, ours.sources["resolution"])
    assert (mine.sources["rank"], mine.sources["learning_rate"]) == ("the file house", "tried in March")
    assert recipe(ModelFacts(classes=["Flux"], shape={"guidance_embed": True}), tmp_path).name == "Flux.1 dev"


def test_of_the_users_recipes_the_one_with_a_word_of_the_files_name_wins(tmp_path):
    write(tmp_path, "a", values={"rank": 1})
    write(tmp_path, "b", values={"rank": 2}, file_words=["house"])
    write(tmp_path, "c", values={"rank": 3}, file_words=["housemodel"])
    names = ("x.safetensors", "House.ckpt", "housemodel.ckpt")
    assert [recipe(ModelFacts(classes=["SDXL"], file=name), tmp_path).rank for name in names] == [1, 2, 3]


def test_a_file_that_an_editor_began_with_a_byte_order_mark_is_read(tmp_path):
    path = write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert recipe(SDXL, tmp_path).rank == 64


def test_a_folder_that_is_not_there_is_no_recipe(tmp_path):
    assert recipe(SDXL, tmp_path / "none") == recipe(SDXL)


@pytest.mark.parametrize(("content", "message"), [
    ({"version": 2}, "version: got 2, expected 1. Update the extension"), ({"version": None}, "version: got None"),
    ({"models": []}, "models: got none"), ({"models": "SDXL"}, "models: got 'SDXL', expected a list"),
    ({"values": {}}, "values: got {}"), ({"values": {"steps": 5}}, "values: got 'steps', expected of resolution"),
    ({"rank": 5}, "key: got 'rank', expected of version"), ({"values": {"rank": 0}}, "rank: got 0"),
    ({"values": {"rank": "16"}}, "rank: got '16'"), ({"values": {"shift": {"big": 3}}}, "shift: got"),
    ({"values": {"shift": 3}}, "shift: got 3"), ({"values": {"resolution": 1000000}}, "resolution: got 1000000"),
    ({"values": {"learning_rate": {"value": 5, "source": "x"}}}, "learning_rate: got 5"),
    ({"values": {"targets": "("}}, "target_pattern"), ({"shape": []}, r"shape: got \[\]"),
    ({"file_words": [5]}, r"file_words: got \[5\]"), ({"advice": 5}, "advice: got 5"), ({"name": ""}, "name: got ''")])
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path, content, message):
    path = write(tmp_path, **content)
    with pytest.raises(InputError, match=f"recipe .*mine.json: {message}"):
        recipe(SDXL, path.parent)


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "\0"])
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path, text):
    (tmp_path / "mine.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="recipe .*mine.json"):
        recipe(SDXL, tmp_path)


def test_the_page_of_recipes_says_what_the_files_say():
    text = HEADER + "".join(section(path) for path in FILES)
    if os.environ.get("WRITE_DOCS"):
        DOCS.write_text(text, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == text, "run it with WRITE_DOCS=1"


def section(path) -> str:
    found = read_recipe(path)
    rows = "".join(f"| {name.replace('_', ' ')} | {shown(value)} | {found.sources[name]} |\n"
                   for name, value in found.values.items())
    files = f" whose file's name has {' or '.join(found.file_words)}" if found.file_words else ""
    shape = "".join(f", {name} {value}" for name, value in found.shape.items())
    fits = f"ComfyUI's {' and '.join(found.models)}{files}{shape}." if found.models else "Models of no other recipe."
    advice = f" {found.advice}" if found.advice else ""
    return f"\n## {found.name}\n\n{fits}{advice}\n\n| value | | source |\n|---|---|---|\n{rows}"


def shown(value) -> str:
    return ", ".join(f"{each:g} at {size}" for size, each in value.items()) if isinstance(value, dict) else f"{value}"
