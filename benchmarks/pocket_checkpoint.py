"""The pocket checkpoint, for scripts in which ComfyUI was started."""

from __future__ import annotations

from typing import Any


def load() -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the pocket checkpoint."""
    import comfy.sd

    from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket

    register_pocket()
    return comfy.sd.load_checkpoint_guess_config(str(CHECKPOINTS / "pocket.safetensors"))[:3]
