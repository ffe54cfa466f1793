"""`make screenshots`: every template in the real editor as *Fit view* shows it, small, for docs/templates.md.

A Chromium on the path draws them; the templates are not run. Numbers choose some: ``... tools.screenshots 01 03``.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from PIL import Image

from .browser import NAMES, find_chromium, open_browser, open_editor, write_settings
from .comfyui_server import Server
from .install_comfyui import ROOT

FOLDER: Final = ROOT / "docs" / "templates"
LARGEST: Final = 60_000
"""Bytes of a picture."""
EDGE: Final = 24
"""Pixels around the nodes."""
FIT: Final = """async graph => {
    await window.app.loadGraphData(graph);
    const { canvas } = window.app;
    canvas.deselectAll();
    await window.app.extensionManager.command.execute("Comfy.Canvas.FitView");
    await new Promise(done => setTimeout(done, 1500));
    const boxes = [...window.app.graph.nodes.map(node => [...node.boundingRect]),
                   ...window.app.graph.groups.map(group => [...group.boundingRect])];
    const least = axis => Math.min(...boxes.map(box => box[axis]));
    const most = axis => Math.max(...boxes.map(box => box[axis] + box[axis + 2]));
    const { scale, offset } = canvas.ds;
    return { zoom: scale, x: (least(0) + offset[0]) * scale, y: (least(1) + offset[1]) * scale,
             width: (most(0) - least(0)) * scale, height: (most(1) - least(1)) * scale };
}"""
"""Loads a graph, fits the view as its key does, and says the zoom and where on the screen the nodes are."""


def draw(page: Any, graph: Any) -> tuple[float, bytes]:
    """A graph in the editor: the zoom, and a JPEG of its nodes."""
    found = page.evaluate(FIT, graph)
    clip = {"x": found["x"] - EDGE, "y": found["y"] - EDGE, "width": found["width"] + 2 * EDGE,
            "height": found["height"] + 2 * EDGE}
    return found["zoom"], small(page.screenshot(clip=clip))


def small(picture: bytes) -> bytes:
    """A JPEG of so many bytes at the most, the quality as high as that allows."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for quality in range(80, 10, -3):
        image.save(found := io.BytesIO(), "JPEG", quality=quality, optimize=True)
        if found.tell() <= LARGEST:
            break
    return found.getvalue()


def main() -> None:
    """Writes a picture of each template, or of those of the numbers that were given, and says its zoom."""
    chromium, numbers = find_chromium(), sys.argv[1:]
    if chromium is None:
        sys.exit(f"screenshots: needs a Chromium on the path, one of: {', '.join(NAMES)}")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        write_settings(Path(base))
        with Server(Path(base)) as server, open_browser(chromium) as context:
            page = open_editor(context, server.client.address)
            for path in sorted((ROOT / "workflows").glob("*.json")):
                number = path.stem.split()[0]
                if not numbers or number in numbers:
                    zoom, picture = draw(page, json.loads(path.read_text(encoding="utf-8")))
                    (FOLDER / f"{number}.jpg").write_bytes(picture)
                    print(f"{path.stem}: zoom {zoom:.3f}")


if __name__ == "__main__":
    main()
