"""The part of docs/families.md on the way through the server, made of docs/families.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .figures import GOOD, STEPS, wrong

HEAD = """
## Through the server

**{good} of {all} families** went through ComfyUI's own server and HTTP API with the nodes of this extension: photos,
identifier, class images, prior preservation, training with previews, KSampler, saved file; then a second prompt in
which stock nodes alone load the file and draw again. Files lie as users have them and are loaded by the stock loaders,
with the real tokenizers; networks, text encoders and autoencoders are stock classes with random weights, small in
width and depth. *Its file says*: what ComfyUI cannot read off so small a file, given to a custom node that the test's
server alone has (`benchmarks/every_family/server/shrunk`), beside the encoders' sizes.

| family | loaded by | identifier | class images | previews | loss | LoRA keys | LoRA picture | pixels | preview | \
restored | its file says |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""
LEGEND = """
- **loss**: at the first and the last of {steps} steps, each at noise of its own. **LoRA keys**: layers of the saved
  file that the stock loader takes.
- **LoRA picture**: the trainer's own MODEL and CLIP against the saved file in the stock loader, latents as a share of
  the largest value; good: at most 1e-5. **pixels**: whether both saved pictures are alike.
- **preview**: how many of 255 levels the last picture of training differs from the one with the file loaded, at most.
- **restored**: without the adapter the loaded model draws bit for bit what it drew before.
"""

def section(records: Sequence[Mapping[str, Any]]) -> str:
    """The part; empty where no family went through the server."""
    travelled = [record for record in records if "server" in record]
    good = sum(not wrong(record["server"]) for record in travelled)
    lines = "\n".join(line(record["name"], record["server"]) for record in travelled)
    return HEAD.format(good=good, all=len(travelled)) + lines + "\n" + LEGEND.format(steps=STEPS) if travelled else ""


def line(name: str, record: Mapping[str, Any]) -> str:
    """A family in one line of the table."""
    if "fails" in record:
        return f"| {name} | **{record['fails']}** |{' |' * 10}"
    cells = {key: shown(key, record[key]) for key in GOOD if key != "change"}
    said = ", ".join(f"{key} {value}" for key, value in record["said"].items()) or "nothing"
    return f"| {' | '.join([name, ', '.join(record['loaders']), record['identifier'], *cells.values(), said])} |"


def shown(key: str, value: Any) -> str:
    """A figure; what is not good is bold."""
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list):
        text = f"{value[0]:.2f} → {value[-1]:.2f}" if value else "none"
    else:
        text = f"{value:.0e}" if isinstance(value, float) else str(value)
    return text if GOOD[key](value) else f"**{text}**"
