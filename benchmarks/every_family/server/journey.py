"""A family's way through a running server, and what is measured on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from ....core.store.files import read_metadata
from ....core.store.runs import STATE_FILE
from ....tools.comfyui_server import Server
from ....tools.install_comfyui import link
from . import SHRUNK, graphs
from .files import write_family
from .forms import FORMS

PLAIN = f"a {graphs.NOUN}"


@contextmanager
def families_server(base: Path, *custom_nodes: Path) -> Iterator[Server]:
    """A server of its own for the families: the stock one with the custom node `shrunk`, and others where given."""
    server = Server(base)
    for node in (SHRUNK, *custom_nodes):
        link(server.base / "custom_nodes" / node.name, node)
    with server:
        yield server


def travel(name: str, server: Server, nodes: Mapping[str, Any],
           store: Callable[[Path], None] = lambda _: None) -> dict[str, Any]:
    """Photos to pictures and back from the saved file; `figures.GOOD` judges them.

    Args:
        name: of `forms.FORMS`.
        server: with the custom node `shrunk`.
        nodes: the server's object_info.
        store: may write the file of the network anew, in another form.

    Raises:
        GraphRefused, GraphFailed: what the server says of a prompt.
    """
    said = write_family(name, server.base / "models")
    folder = "checkpoints" if FORMS[name].has_checkpoint else "diffusion_models"
    store(server.base / "models" / folder / f"{name}.safetensors")
    try:
        server.client.run(graphs.before(name, PLAIN, nodes))
        prompt = graphs.training(name, nodes)
        outputs = server.client.run(prompt)
        identifier = titled(prompt, outputs, "identifier")["text"][0]
        seen = len(server.log_text())
        server.client.run(graphs.after(name, f"a {identifier} {graphs.NOUN}", nodes))
        lost = server.log_text()[seen:].count("lora key not loaded")
    finally:
        for file in (server.base / "models").glob(f"*/{name}*.safetensors"):
            file.unlink()
    previews, layers = titled(prompt, outputs, "previews")["images"], layers_of(server, name)
    return {
        "loaders": list(FORMS[name].loaders), "said": said.pop("network") | said, "identifier": identifier,
        "class_images": len(titled(prompt, outputs, "class images")["images"]), "previews": len(previews),
        "losses": losses_of(server, name), "lora_keys": f"{layers - lost}/{layers}",
    } | compared(server, name, pictured(server, previews[-1]))


def compared(server: Server, name: str, preview: NDArray[np.int32]) -> dict[str, Any]:
    """The pictures that the server kept, against each other: before and after training without the adapter; with it,
    as the trainer hands MODEL on, and as the stock loader reads the file; the last preview."""
    stages = ("before", "after", "trained", "loaded")
    latents = {stage: latent(server, f"{name}_{stage}") for stage in stages}
    pictures = {stage: picture(server, f"{name}_{stage}") for stage in stages}
    return {
        "change": relative_error(latents["loaded"], latents["after"]),
        "picture_error": relative_error(latents["loaded"], latents["trained"]),
        "same_pixels": bool(np.array_equal(pictures["loaded"], pictures["trained"])),
        "preview_error": int(np.abs(preview - pictures["loaded"]).max()),
        "restored": bool(np.array_equal(latents["before"], latents["after"])
                         and np.array_equal(pictures["before"], pictures["after"])),
    }


def titled(prompt: Mapping[str, Any], outputs: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What the node of this title gave."""
    (number,) = (number for number, node in prompt.items() if node["_meta"]["title"] == title)
    return dict(outputs[number])


def losses_of(server: Server, name: str) -> list[float]:
    """The loss of every step, from the run's saved state."""
    state = read_metadata(server.base / "output" / "personalize" / name / STATE_FILE)["state"]
    return [float(loss) for loss in state["losses"]]


def layers_of(server: Server, name: str) -> int:
    """How many layers the saved adapter has."""
    return sum(key.endswith("lora_up.weight") for key in load_file(server.base / "models" / "loras"
                                                                    / graphs.lora_file(name)))


def latent(server: Server, prefix: str) -> NDArray[np.float32]:
    """What SaveLatent wrote."""
    (path,) = (server.base / "output").glob(f"{prefix}_*.latent")
    return load_file(path)["latent_tensor"]


def picture(server: Server, prefix: str) -> NDArray[np.int32]:
    """What SaveImage wrote."""
    (path,) = (server.base / "output").glob(f"{prefix}_*.png")
    return np.asarray(Image.open(path), dtype=np.int32)


def pictured(server: Server, entry: Mapping[str, str]) -> NDArray[np.int32]:
    """One entry of a node's `images`."""
    return np.asarray(Image.open(server.base / "output" / entry["subfolder"] / entry["filename"]), dtype=np.int32)


def relative_error(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, as a share of the largest expected value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
