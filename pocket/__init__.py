"""The embedded default: a procedural captioned world and a small text-to-image model trained on it."""
