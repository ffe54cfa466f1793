"""Real servers (`main.py`) under torture: the tiny model in their loaders, all their writing watched, and the gallery's
workflows cut down to a second."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..comfyui_server import Server
from ..install_comfyui import ROOT, comfyui_directory, link
from .rig import is_our_file

CHECKPOINT = "tiny.safetensors"
EXPANDED = ROOT / "pocket" / "image_text_expanded"
"""Where the package unpacks its own image-text model, once."""
MISSING = "validate_inputs() missing"
"""ComfyUI's own frame raises it, because a node of ours asks for an input that a prompt may leave out."""
WRITABLE = ("output", "temp", "input", "user", "tmp", "home", "models/loras", "models/embeddings")
SMALL: Mapping[str, Mapping[str, Any]] = {
    "PersonalizeTrainer": {"steps": 4, "resolution": 64, "batch": 1},
    "PriorSampleGen": {"count": 2, "size": 64, "steps": 2, "batch": 2},
    "IdentifierPicker": {"candidates": 2},
    "PersonalizeTrainingOptions": {"save_every": 2, "rank": 4},
    "EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "KSampler": {"steps": 2},
    "PersonalizePrototypicalEmbedding": {"fit_steps": 2},
    "PersonalizeDCIMasks": {"steps": 3},
    "PersonalizeSuperResolution": {"steps": 2, "preview_photos": 1, "preview_steps": 1},
    "PersonalizeEvaluate": {"prompts": "a {V} {noun} in the snow", "seeds": 1, "size": 64, "steps": 2,
                                "class_pictures": 1},
    "PersonalizeAuxiliaryNounPicker": {"candidates": "cat, fish", "pictures": 1, "size": 64, "steps": 2},
    "ImageScale": {"width": 64, "height": 64},
}
Graph = dict[str, dict[str, Any]]


class WatchedServer(Server):
    """A server whose base directory has the tiny checkpoint and the watching node; single-threaded, as others run."""

    def __init__(self, base: Path, arguments: tuple[str, ...] = ("--cpu",)):
        base = base.resolve()
        self.notes = base / "watch.jsonl"
        for folder in WRITABLE:
            (base / folder).mkdir(parents=True, exist_ok=True)
        allowed = [*(str(base / folder) for folder in (*WRITABLE, "comfyui.db")), str(EXPANDED)]
        watched = {"TORTURE_WATCH": str(self.notes), "TORTURE_CHECKOUT": str(ROOT), "OMP_NUM_THREADS": "1",
                   "TORTURE_ALLOWED": json.dumps(allowed),
                   "HOME": str(base / "home"), "TMPDIR": str(base / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.ports: list[str] = []
        super().__init__(base, arguments=arguments, environment=watched)
        link(self.base / "custom_nodes" / "watch_node", Path(__file__).parent / "watch_node")
        provide_checkpoint(self.base / "models" / "checkpoints" / CHECKPOINT)

    def start(self) -> None:
        """Start it, and note its port."""
        super().start()
        self.ports.append(self.client.address.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def leaks(self) -> list[str]:
        """What was written outside, connected or started, without the server's own socket."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        found = {f"{event} {what}" for event, what in map(json.loads, lines)}
        return sorted(found - {f"socket.bind ('127.0.0.1', {port})" for port in self.ports})


def provide_checkpoint(path: Path) -> None:
    """Put the tiny checkpoint in place; it is made once, by a process of its own."""
    made = ROOT / ".torture" / CHECKPOINT
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        program = ("import sys, shutil; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[2]); "
                   "from comfy.cli_args import args; args.cpu = True; import tiny_model; "
                   "shutil.copyfile(tiny_model.tiny_checkpoint(), sys.argv[3])")
        subprocess.run([sys.executable, "-c", program, str(comfyui_directory()), str(ROOT / "tests" / "nodes"),
                        str(made)], check=True, cwd=made.parent, capture_output=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, path)


def workflow(number: int) -> Graph:
    """A gallery workflow in API form on the tiny model, small enough for a second."""
    (path,) = (ROOT / "workflows" / "api").glob(f"{number:02d} *.json")
    graph: Graph = json.loads(path.read_text(encoding="utf-8"))
    for node in graph.values():
        node["inputs"].update(SMALL.get(node["class_type"], {}))
        if node["inputs"].get("ckpt_name") == "pocket.safetensors":
            node["inputs"]["ckpt_name"] = CHECKPOINT
    return graph


def with_inputs(graph: Graph, class_type: str, **inputs: Any) -> Graph:
    """A copy in which every node of a class has other inputs."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if node["class_type"] == class_type:
            node["inputs"].update(inputs)
    return graph


def pruned(graph: Graph, *wanted: str) -> Graph:
    """The nodes with these ids and all that they need."""
    kept: Graph = {}
    waiting = [*wanted]
    while waiting:
        number = waiting.pop()
        if number in kept or number not in graph:
            continue
        kept[number] = graph[number]
        inputs = graph[number].get("inputs")
        for value in inputs.values() if isinstance(inputs, dict) else ():
            if isinstance(value, list) and value and isinstance(value[0], str):
                waiting.append(value[0])
    return kept


def is_raw_and_ours(details: Mapping[str, Any], our_errors: tuple[str, ...]) -> bool:
    """Whether an execution or validation error is an exception that ends in our code and is none of our errors."""
    kind = str(details.get("exception_type", "")).rpartition(".")[2]
    lines = [line for line in "".join(map(str, details.get("traceback") or ())).splitlines()
             if line.lstrip().startswith("File ")]
    if kind in our_errors:
        return False
    return bool(lines) and is_our_file(lines[-1]) or MISSING in str(details.get("exception_message", ""))


def tree(folders: Mapping[str, Path], without: tuple[str, ...] = ()) -> dict[str, tuple[int, int]]:
    """Size and time of every file below some folders."""
    found = {}
    for name, folder in folders.items():
        for where, inner, files in os.walk(folder):
            inner[:] = [each for each in inner if each not in without]
            for file in files:
                status = os.lstat(os.path.join(where, file))
                found[f"{name}/{os.path.relpath(os.path.join(where, file), folder)}"] = (status.st_size,
                                                                                        status.st_mtime_ns)
    return found
