"""The training loop and its policy."""
