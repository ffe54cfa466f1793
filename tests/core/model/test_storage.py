"""What a network's storage says about memory."""

from __future__ import annotations

import torch

from comfyui_personalize.core.model.storage import LayerStorage, ModelStorage, Placement


def layer(path, stored, cast=0, **changes):
    return LayerStorage(path=path, elements=stored, stored_bytes=stored, cast_bytes=cast,
                        **{"is_eight_bit": False, "is_frozen": False, "can_stream": True, **changes})


STORAGE = ModelStorage(compute_dtype=torch.bfloat16, layers=(
    layer("in_eight_bits", 100, 200, is_eight_bit=True, is_frozen=True), layer("in_float16", 300, 600),
    layer("norm", 10, 20, can_stream=False)))


def test_what_cannot_stream_is_resident_in_each_placement():
    assert (STORAGE.stored_bytes, STORAGE.streamable_bytes, STORAGE.resident_bytes) == (410, 400, 10)
    assert (STORAGE.largest_cast_bytes, STORAGE.largest_streamed_bytes) == (600, 300)


def test_casts_are_kept_of_layers_that_are_neither_frozen_nor_streamed():
    assert STORAGE.kept_copies_bytes(Placement.RESIDENT) == 620
    assert STORAGE.kept_copies_bytes(Placement.STREAMED) == 20


def test_a_network_is_in_eight_bits_where_one_layer_is():
    assert STORAGE.is_eight_bit
    assert not ModelStorage(compute_dtype=torch.float32, layers=STORAGE.layers[1:]).is_eight_bit
