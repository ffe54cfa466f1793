"""`make help-pictures`: draws every node in the real editor, for the help pages: web/docs/pictures.

    python -m comfyui_personalize.tools.help_pictures PersonalizeTrainer
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from .browser import find_chromium, open_browser, open_editor, write_settings
from .comfyui_server import Server
from .install_comfyui import ROOT

PICTURES = ROOT / "web" / "docs" / "pictures"
MOST_BYTES = 15 * 1024
MARGIN = 12
FACE = "face"
"""The PNG's text that says what was drawn, for the test that no picture is older than its node."""
FOLDER = "my_dog"
"""Of photos, in the input folder."""
DRAW = """async type => {
    const { graph, canvas } = window.app;
    const drawn = () => new Promise(done => setTimeout(done, 500));
    graph.nodes.slice().forEach(other => graph.remove(other));  // an id that comes again brings its old values along
    const node = window.LiteGraph.createNode(type);
    graph.add(node);
    node.widgets?.filter(widget => widget.options?.values?.includes?.('FOLDER'))
        .forEach(widget => { widget.value = 'FOLDER'; });
    await drawn();
    const [least, height] = node.computeSize();
    node.setSize([Math.max(least, 300), height]);
    node.badges = [];
    node.updateArea();
    const [x, y, ...size] = node.boundingRect;
    Object.assign(canvas.ds, { scale: 1, offset: [500 - x, 60 - y] });
    canvas.setDirty(true, true);
    await drawn();
    const { left, top } = canvas.canvas.getBoundingClientRect();
    return [left + 500, top + 60, ...size];
}""".replace("FOLDER", FOLDER)
"""The box of the node on the page."""


def face(info: Mapping[str, Any]) -> str:
    """Digest of what a picture of the node shows: its name, and names, kinds and defaults of what it has.

    Args:
        info: the node in `/object_info`.
    """
    fields = [[name, kind if isinstance(kind, str) else "COMBO", options.get("display_name"), options.get("default"),
               options.get("forceInput"), options.get("advanced")]
              for group in ("required", "optional") for name, (kind, *rest) in info["input"].get(group, {}).items()
              for options in [rest[0] if rest else {}]]
    return hashlib.sha256(json.dumps([info["display_name"], fields, info["output_name"]]).encode()).hexdigest()[:16]


def small_png(picture: Image.Image, shows: str, most: int = MOST_BYTES) -> bytes:
    """The picture as a PNG of at most `most` bytes, in as many colours as fit, with the digest of what it shows."""
    note = PngImagePlugin.PngInfo()
    note.add_text(FACE, shows)
    for colours in (64, 32, 16, 8):
        buffer = io.BytesIO()
        flat = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        flat.save(buffer, "PNG", optimize=True, pnginfo=note)
        if buffer.tell() <= most:
            break
    return buffer.getvalue()


def draw(page: Any, node_id: str) -> Image.Image:
    """A node as the editor shows it."""
    x, y, width, height = page.evaluate(DRAW, node_id)
    clip = {"x": x - MARGIN, "y": y - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    return Image.open(io.BytesIO(page.screenshot(clip=clip)))


def drawn(chromium: str, wanted: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Every wanted node's picture as a PNG; all of ours where none is named."""
    with tempfile.TemporaryDirectory() as folder:
        write_settings(Path(folder))
        (Path(folder) / "input" / FOLDER).mkdir(parents=True)
        with Server(Path(folder)) as server, open_browser(chromium) as context:
            page = open_editor(context, server.client.address)
            nodes = {name: node for name, node in server.client.object_info().items()
                     if node["category"] == "personalize"}
            for node_id in wanted or sorted(nodes):
                yield node_id, small_png(draw(page, node_id), face(nodes[node_id]))


def main(wanted: Sequence[str]) -> int:
    """Draw and write."""
    chromium = find_chromium()
    if chromium is None:
        print("No Chromium on the path: install one, then run this again.")
        return 1
    PICTURES.mkdir(exist_ok=True)
    for node_id, picture in drawn(chromium, wanted):
        (PICTURES / f"{node_id}.png").write_bytes(picture)
        print(f"wrote web/docs/pictures/{node_id}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
