"""What users read names nodes as the editor shows them, by the display names of the schemas; core names no node."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STOCK = {"Load Image", "Load LoRA", "Load CLIP", "Load CLIP Vision", "CLIP Loader", "CLIP Text Encode",
         "Save LoRA Weights", "Plot Loss Graph", "Set Area", "Mask Editor", "Invert Mask", "Perp-Neg Guider",
         "Perturbed-Attention Guidance", "Self-Attention Guidance", "Preview as Text"}
"""Display names of ComfyUI's own nodes and of its editor's parts."""
NO_NODES = {"Stable Diffusion", "Textual Inversion", "Custom Diffusion", "Qwen-Image",
            "Content-Type", "Sec-Fetch", "Cache-Control", "Press Run"}
"""Methods, families of models, words of HTTP, and what one presses."""
STORED = ("ComfyUI: LoraLoader and LoadPersonalization", "ComfyUI: LoadPersonalization (LoraLoader")
"""What files say of the programs that read them: it stays as it was written."""
CAPITALISED = re.compile(r"(?<![A-Za-z-])[A-Z][a-z]+(?:[ -][A-Z][a-z]+)+(?![A-Za-z])")
PRESETS = {*(ROOT / "core" / "training" / name for name in ("presets.py", "measured_presets.py")),
           ROOT / "nodes" / "bridge" / "model" / "families" / "measured.py"}
"""Recipes for people, who connect nodes by them; and a list of families' names."""


def node_names() -> dict[str, str]:
    """Display name by node id, from the schemas."""
    found = {}
    for path in (ROOT / "nodes").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "Schema":
                given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords
                         if keyword.arg in ("node_id", "display_name")}
                found[given["node_id"]] = given["display_name"]
    return found


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and texts of a file's strings, without docstrings and without the names that it exports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    skipped |= {id(name) for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node).startswith("__all__") for name in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def found_in(area: str, pattern: re.Pattern[str], clean: re.Pattern[str] | None = None) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line} {match}" for path in sorted((ROOT / area).rglob("*.py"))
            if path not in PRESETS for line, text in texts(path) if not text.startswith(STORED)
            for match in pattern.findall(clean.sub("", text) if clean else text)]


def any_of(names: set[str]) -> str:
    return rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?!\w)"


def joined(names: set[str]) -> set[str]:
    """Names as classes write them: SubjectPhotos."""
    return {re.sub(r"[^A-Za-z]", "", name) for name in names if " " in name}


def test_the_schemas_say_the_name_of_every_node():
    names = node_names()
    assert names["PersonalizeSubjectPhotos"] == "Subject Photos" and len(names) >= 35
    assert len(set(names.values())) == len(names)


def test_core_names_no_node():
    names = node_names()
    shown = {name for name in names.values() if " " in name}
    assert found_in("core", re.compile(any_of({*names, *shown, *joined(shown)}))) == []


def test_what_nodes_say_names_nodes_as_the_editor_shows_them():
    """Ids stand alone in a string, as a schema and the checks of a queued graph write them; never in a sentence."""
    names = node_names()
    written = {*names, *joined({*names.values()})}
    inside = re.compile(rf"(?s)(?:^.*\s|^){any_of(written)}(?:\W.*)$|^.*\s{any_of(written)}$")
    assert found_in("nodes", inside) == []


def test_every_node_that_is_named_exists():
    """Two or more capitalised words are a node's name, of ours or of ComfyUI, a method, or a family of models."""
    known = re.compile(any_of({*node_names().values(), *STOCK, *NO_NODES}))
    assert found_in("nodes", CAPITALISED, clean=known) == []


@pytest.mark.parametrize(("text", "is_found"), [("Use the Subject Photo Box.", True), ("Use Subject Photos.", False)])
def test_a_name_that_no_node_has_is_found(text, is_found):
    known = re.compile(any_of({*node_names().values()}))
    assert bool(CAPITALISED.search(known.sub("", text))) == is_found
