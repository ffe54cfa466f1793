"""Runs a V3 node as ComfyUI's executor does: on a clone that has its hidden inputs."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io


def run_node(node: type[io.ComfyNode], **inputs: Any) -> tuple[Any, ...]:
    """The node's outputs, computed in inference mode."""
    clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "7"}})
    with torch.inference_mode():
        return clone.EXECUTE_NORMALIZED(**inputs).args
