"""What the extension adds to ComfyUI's start, to the editor's start and to queueing a prompt.

    python -m comfyui_personalize.benchmarks.editor [--rounds 3] [--write]

The same server with and without custom nodes, in turn. CPU seconds of the server's process (and of the browser's, all
of its children together), which a busy machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from ..tools.browser import MINUTE, find_chromium, open_browser, write_settings
from ..tools.browser import NAMES as BROWSERS
from ..tools.comfyui_server import Client, Server
from ..tools.install_comfyui import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "editor.md"
PROMPTS, LISTS = 40, 5
SETTLE_SECONDS = 3.0
"""What starts in the background belongs to the start."""
IS_READY = "() => window.app?.graph && window.LiteGraph?.registered_node_types?.KSampler"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One start of the server and of the editor."""

    server_start: float
    """CPU seconds until the server answers and has settled."""
    node_list: float
    """CPU milliseconds of the server for the list of all nodes, which the editor asks for as it starts."""
    node_list_size: float
    """Its size in kB."""
    queueing: float
    """CPU milliseconds of the server for one prompt of three stock nodes: checked, queued, run."""
    editor_start: float
    """CPU seconds of the browser until the editor knows its nodes, with an empty cache."""
    editor_requests: float
    """Files that the browser asked for."""


NAMES = {
    "server_start": "the server's start, CPU s", "node_list": "the list of nodes, CPU ms",
    "node_list_size": "the list of nodes, kB", "queueing": "a prompt of three stock nodes, CPU ms",
    "editor_start": "the editor's start, CPU s of the browser", "editor_requests": "files the editor asks for",
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    given = parser.parse_args()
    measured: dict[bool, list[Figures]] = {True: [], False: []}
    for _ in range(given.rounds):
        for has_extension, figures in measured.items():
            figures.append(measure(has_extension=has_extension))
    report = page(measured[False], measured[True])
    print(report)
    if given.write:
        RESULTS.write_text(report, encoding="utf-8")


def measure(*, has_extension: bool) -> Figures:
    """Starts a server in a directory of its own and asks it for everything once."""
    options = ("--cpu",) if has_extension else ("--cpu", "--disable-all-custom-nodes")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_settings(base)
        with Server(base, arguments=options) as server:
            process = psutil.Process(server.pid)
            time.sleep(SETTLE_SECONDS)
            started = cpu_seconds(process)
            nodes = [server.client.get("/object_info", timeout=60.0) for _ in range(LISTS)][0]
            listed = (cpu_seconds(process) - started) / LISTS
            queued = queue(server.client, process)
            editor, requests = start_editor(server)
    return Figures(server_start=started, node_list=1e3 * listed, node_list_size=len(json.dumps(nodes)) / 1e3,
                   queueing=1e3 * queued, editor_start=editor, editor_requests=requests)


def queue(client: Client, process: psutil.Process) -> float:
    """CPU seconds a prompt; each one differs, so that none is answered from the cache."""
    before = cpu_seconds(process)
    for colour in range(PROMPTS):
        client.run(graph(colour))
    return (cpu_seconds(process) - before) / PROMPTS


def graph(colour: int) -> dict[str, dict[str, Any]]:
    """An image, turned over, previewed."""
    return {"1": {"class_type": "EmptyImage",
                  "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": colour}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}}


def start_editor(server: Server) -> tuple[float, int]:
    """CPU seconds of a fresh browser until the editor knows its nodes, and how many files it asked for."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(f"browser: got none on the path, expected one of {', '.join(BROWSERS)}: install one")
    with open_browser(chromium) as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        tab, before = context.pages[0], browser_seconds(server)
        tab.goto(server.client.address, timeout=2 * MINUTE)
        tab.wait_for_function(IS_READY, timeout=2 * MINUTE)
        time.sleep(SETTLE_SECONDS)
        return browser_seconds(server) - before, len(asked)


def browser_seconds(server: Server) -> float:
    """CPU seconds of all processes that this one has started, but for the server."""
    return sum(cpu_seconds(child) for child in psutil.Process().children(recursive=True)
               if child.pid != server.pid and child.is_running())


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of one process so far."""
    times = process.cpu_times()
    return times.user + times.system


def page(without: list[Figures], having: list[Figures]) -> str:
    """The report: medians, with their spread."""
    lines = [f"""# What the extension adds to the editor

`python -m comfyui_personalize.benchmarks.editor --rounds {len(having)} --write`: medians (least to most) of \
{len(having)} starts each, in turn.

| | ComfyUI alone | with the extension | added |
|---|---|---|---|"""]
    for field in fields(Figures):
        a, b = ([getattr(figures, field.name) for figures in runs] for runs in (without, having))
        lines.append(f"| {NAMES[field.name]} | {told(a)} | {told(b)} | "
                     f"{statistics.median(b) - statistics.median(a):+.3g} |")
    return "\n".join(lines) + "\n"


def told(values: list[float]) -> str:
    """The median and the range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
