"""ComfyUI's samplers, called in one place."""
