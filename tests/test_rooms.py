"""Imports run one way: workflows and nodes to the bridge, the bridge to core, and inside both from later rooms to
earlier ones. `core` knows nothing of ComfyUI."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = {
    "core": ("model", "store", "data", "subject", "learning", "objectives", "training", "dci", "evaluation"),
    "nodes/bridge": ("model", "photos", "text", "sampling", "files", "training", "dci", "evaluation",
                     "super_resolution", "queue", "server"),
}
"""Rooms, each before those that may import it. What stands in no room is the ground, on which all of them stand."""
COMFYUI = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "execution", "server",
           "latent_preview", "node_helpers"}


def python_files(area: str) -> list[Path]:
    return sorted((ROOT / area).rglob("*.py"))


def imported(path: Path) -> Iterator[Path]:
    """Files and folders of this repository that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.ImportFrom) and node.level):
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split(".") if node.module else ())
        for name in node.names:
            inside = base / name.name
            yield next(found for found in (inside.with_suffix(".py"), inside, base.with_suffix(".py"), base)
                       if found.exists())


def room_of(path: Path, area: str) -> str:
    """The room of a file; "" for the ground."""
    inside = path.relative_to(ROOT / area)
    return inside.parts[0] if (ROOT / area / inside.parts[0]).is_dir() else ""


def test_every_room_has_its_place():
    for area, order in ORDER.items():
        rooms = {folder.name for folder in (ROOT / area).iterdir() if (folder / "__init__.py").exists()}
        assert rooms == set(order)


@pytest.mark.parametrize("area", ORDER)
def test_no_import_runs_upward_between_rooms(area):
    place = {name: number for number, name in enumerate(("", *ORDER[area]))}
    upward = [f"{path.relative_to(ROOT)} imports {target.relative_to(ROOT)}"
              for path in python_files(area) for target in imported(path)
              if (ROOT / area) in target.parents
              and place[room_of(target, area)] > place[room_of(path, area)]]
    assert upward == []


@pytest.mark.parametrize("area", ["core", "nodes"])
def test_no_files_import_each_other_in_a_circle(area):
    arrows = {path: {target for target in imported(path) if target.suffix and target.name != "__init__.py"}
              for path in python_files(area)}
    done: set[Path] = set()

    def walk(path: Path, above: tuple[Path, ...]) -> None:
        assert path not in above, " -> ".join(str(part.relative_to(ROOT)) for part in (*above, path))
        if path in done:
            return
        for target in arrows.get(path, ()):
            walk(target, (*above, path))
        done.add(path)

    for path in arrows:
        walk(path, ())


def test_core_and_the_bridge_import_nothing_above_them():
    above = {"core": ("nodes", "tools", "pocket", "benchmarks"), "nodes/bridge": ("tools", "benchmarks")}
    wrong = [f"{path.relative_to(ROOT)} imports {target.relative_to(ROOT)}" for area, names in above.items()
             for path in python_files(area) for target in imported(path)
             if target.relative_to(ROOT).parts[0] in names and (ROOT / area) not in target.parents
             or area == "nodes/bridge" and target.parent == ROOT / "nodes" and target.name != "bridge"]
    assert wrong == []


def test_no_file_of_core_names_comfyui():
    for path in python_files("core"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & COMFYUI, path


def test_all_of_core_is_imported_without_comfyui():
    """In a process of its own, in which ComfyUI cannot be found."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
               for path in python_files("core")]
    script = "\n".join(["import importlib, sys, types", "package = types.ModuleType('comfyui_personalize')",
                        f"package.__path__ = [{str(ROOT)!r}]", "sys.modules['comfyui_personalize'] = package",
                        f"for name in {modules!r}: importlib.import_module('comfyui_personalize.' + name)",
                        f"assert not {COMFYUI!r} & set(sys.modules)"])
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
