"""A MODEL's storage is told before it is loaded."""

from __future__ import annotations

import pytest
import torch
from test_adapter_files import fp8_models
from tiny_model import tiny_models

from comfyui_personalize.core.model.storage import Placement
from comfyui_personalize.nodes.bridge.model.storage import storage_of

pytestmark = pytest.mark.usefixtures("inference_mode")


def test_bytes_are_those_of_all_parameters():
    model = tiny_models()[0]
    parameters = list(model.model.diffusion_model.parameters())
    storage = storage_of(model)
    assert storage.stored_bytes == sum(parameter.nbytes for parameter in parameters)
    assert sum(layer.elements for layer in storage.layers) == sum(parameter.numel() for parameter in parameters)
    assert storage.compute_dtype == torch.float32 and storage.largest_cast_bytes == 0
    assert not storage.is_eight_bit and storage.kept_copies_bytes(Placement.RESIDENT) == 0


def test_linear_layers_and_convolutions_stream_and_norms_stay():
    model = tiny_models()[0]
    for layer in storage_of(model).layers:
        part = model.model.diffusion_model.get_submodule(layer.path)
        assert layer.can_stream == isinstance(part, torch.nn.Linear | torch.nn.Conv2d), layer.path


def test_weights_of_8_bits_are_frozen_and_cast_to_the_compute_dtype():
    storage = storage_of(fp8_models()[0])
    frozen = [layer for layer in storage.layers if layer.is_frozen]
    assert storage.is_eight_bit and storage.compute_dtype == torch.float32
    assert {layer.cast_bytes // layer.stored_bytes for layer in frozen} == {4}
    assert storage.kept_copies_bytes(Placement.RESIDENT) == sum(
        layer.cast_bytes for layer in storage.layers if not layer.can_stream)
