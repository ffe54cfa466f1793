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
from .thumbnails import STORIES, WORKFLOWS

FOLDER: Final = ROOT / "docs" / "templates"
LARGEST: Final = 30_000
"""Bytes of a picture."""
PAGE: Final = ROOT / "docs" / "templates.md"
HEAD: Final = """# Templates

In ComfyUI's template gallery under *comfyui-personalize*, in this order; each as the editor's *Fit view* shows it. They
run as they are on the pocket model that comes along; 00b, 18, 19 and 20 name files of other models, and their loaders
are framed in red until those are there. `make screenshots` draws this page again.
"""
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
    """A graph in the editor: the zoom, and a WebP of its nodes, or of its form where it is an app."""
    found = page.evaluate(FIT, graph)
    if graph["extra"].get("linearMode"):
        return found["zoom"], small(page.screenshot())
    clip = {"x": found["x"] - EDGE, "y": found["y"] - EDGE, "width": found["width"] + 2 * EDGE,
            "height": found["height"] + 2 * EDGE}
    return found["zoom"], small(page.screenshot(clip=clip))


def small(picture: bytes) -> bytes:
    """A WebP of so many bytes at the most, the quality as high as that allows."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for quality in range(80, 0, -4):
        image.save(found := io.BytesIO(), "WEBP", quality=quality, method=6)
        if found.tell() <= LARGEST:
            break
    return found.getvalue()


def names() -> list[str]:
    """The templates in the gallery's order."""
    return sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def written_page() -> str:
    """The page of all templates: a line and a picture each."""
    stories = {name: STORIES[name.split()[0]].words for name in names()}
    lines = [f"\n**{name}.** {words}{'' if words.endswith('?') else '.'}\n\n"
             f"![{name}](templates/{name.split()[0]}.webp)\n" for name, words in stories.items()]
    return "".join([HEAD, *lines])


def main() -> None:
    """Writes a picture of each template, or of those of the numbers that were given, and the page."""
    chromium, numbers = find_chromium(), sys.argv[1:]
    if chromium is None:
        sys.exit(f"screenshots: needs a Chromium on the path, one of: {', '.join(NAMES)}")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        write_settings(Path(base))
        with Server(Path(base)) as server, open_browser(chromium) as context:
            page = open_editor(context, server.client.address)
            page.evaluate("""() => { for (const name of ["Comfy.Graph.CanvasMenu", "Comfy.Minimap.Visible"])
                                         window.app.extensionManager.setting.set(name, false); }""")
            for name in names():
                number = name.split()[0]
                if not numbers or number in numbers:
                    zoom, picture = draw(page, json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
                    (FOLDER / f"{number}.webp").write_bytes(picture)
                    print(f"{name}: zoom {zoom:.3f}", flush=True)
    PAGE.write_text(written_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
