"""DCI inside ComfyUI's sampling."""
