"""Workflow 3 draws what it is for: a subject stuck in its photo, which DCI takes where the prompt says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from comfyui_personalize.pocket.judge import load_judge
from comfyui_personalize.tools.pictures.graphs import with_pictures, workflow
from comfyui_personalize.tools.pictures.judging import Panel, pixels
from comfyui_personalize.tools.pictures.measures import place_of
from comfyui_personalize.tools.render_photos import example_photos
from comfyui_personalize.tools.write_workflows import saved_pictures

SEEDS = 16


@pytest.fixture(scope="module")
def found(server):
    """Alignment and fidelity of either side, as the judge sees 16 seeds of the shipped workflow."""
    graph = with_pictures(workflow("03")[1], SEEDS)
    pictures = saved_pictures(server.client, graph, server.client.run(graph, timeout=600))
    with torch.no_grad():
        panel = Panel(load_judge(), torch.empty(0, 64))
        photos = torch.from_numpy(np.stack([photo.pixels for photo in example_photos()])).permute(0, 3, 1, 2) / 255
        small = torch.nn.functional.interpolate(photos, 96, mode="area")
        own = torch.nn.functional.normalize(panel.judge(small)["identity"].float().mean(0), dim=0)
        return {title: (panel.alignment(seen, place_of(graph)), panel.fidelity(seen, own))
                for title, seen in ((title, pixels(images)) for title, images in pictures.items())}


def test_plain_sampling_keeps_the_photos_surroundings_and_dci_obeys(found):
    assert found["With DCI"][0] - found["Plain"][0] >= 0.5, found


def test_the_subject_is_kept(found):
    assert found["With DCI"][1] > found["Plain"][1] - 0.1, found
