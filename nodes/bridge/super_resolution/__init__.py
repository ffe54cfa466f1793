"""The 4x upscaler learns the subject."""
