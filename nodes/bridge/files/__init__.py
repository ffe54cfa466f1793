"""Personalizations among ComfyUI's model files."""
