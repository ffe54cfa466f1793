"""One training run on loaded models."""
