"""A MODEL as a denoiser that trains."""
