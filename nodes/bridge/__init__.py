"""The one place that translates between ComfyUI's objects and the library in `core`."""
