"""The pocket models in ComfyUI: what its own loaders need to know to read them like any other checkpoint."""
