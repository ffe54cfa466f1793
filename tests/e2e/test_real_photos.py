"""Photos and rough masks of a real subject, uploaded and trained over HTTP; the bundled ones where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfyui_personalize.tests.e2e.conftest import changed, nodes_of, only, workflow
from comfyui_personalize.tools.install_comfyui import ROOT

SHARED = ROOT.parent / "shared" / "photos" / "rc_car"
BUNDLED = ROOT / "workflows" / "photos"


def photos_with_masks() -> list[tuple[Path, Path | None]]:
    """Photos and their mask files; a bundled photo has its mask in the alpha channel."""
    masks = sorted(SHARED.glob("*.mask.png"))
    if masks:
        return [(mask.with_name(mask.name.replace(".mask.png", ".jpg")), mask) for mask in masks]
    return [(BUNDLED / "personalize_dog_masked.png", None)]


def masked_photos_graph(server, noun: str):
    """Workflow 2 up to its trainer, on uploaded photos."""
    graph = workflow(2)
    graph = only(graph, *nodes_of(graph, "PersonalizeTrainer"))
    (photos,) = nodes_of(graph, "PersonalizeSubjectPhotos")
    inputs: dict[str, Any] = {"class_noun": noun}
    for number, (photo, mask) in enumerate(photos_with_masks()):
        graph[f"photo{number}"] = {"class_type": "LoadImage", "inputs": {"image": server.client.upload_image(photo)}}
        inputs[f"images.image{number}"] = [f"photo{number}", 0]
        inputs[f"masks.mask{number}"] = [f"photo{number}", 1]
        if mask:
            graph[f"mask{number}"] = {"class_type": "LoadImageMask", "inputs": {
                "image": server.client.upload_image(mask), "channel": "red"}}
            inputs[f"masks.mask{number}"] = [f"mask{number}", 0]
    return changed(changed(graph, "PersonalizeSubjectPhotos", **inputs), "IdentifierPicker", class_noun=noun), photos


def test_real_photos_with_rough_masks_train(server):
    graph, photos = masked_photos_graph(server, "toy car")
    outputs = server.client.run(changed(graph, "PersonalizeTrainer", run_name="real", seed=5))
    count = sum(name.startswith("images.") for name in graph[photos]["inputs"])
    (report,) = (output["text"][0] for output in outputs.values() if "was used" in str(output.get("text")))
    assert count == len(photos_with_masks())
    assert f"Each of your {count} photos" in report, report
