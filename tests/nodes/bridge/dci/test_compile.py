"""DCI on a MODEL that a torch.compile node compiled: the same picture, and no compilation anew at every step."""

from __future__ import annotations

import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from dci_rig import apply_dci, assert_close, encode, ksample
from tiny_model import tiny_models


@pytest.mark.full
def test_a_compiled_model_samples_the_same_and_compiles_no_more_in_later_steps():
    """The number of graphs does not grow with the number of steps in the window."""
    model, clip, _ = tiny_models()
    patched, positive = apply_dci(model, clip, window=1.0)
    negative = encode(clip, "")
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    compiled = patched.clone()
    set_torch_compile_wrapper(compiled, backend=backend)
    try:
        with torch.no_grad():
            assert_close(ksample(compiled, positive, negative, steps=2), ksample(patched, positive, negative, steps=2),
                         1e-3)
            after_two = len(graphs)
            ksample(compiled, positive, negative, steps=6)
    finally:
        torch._dynamo.reset()
    assert after_two > 0 and len(graphs) <= 2 * after_two
