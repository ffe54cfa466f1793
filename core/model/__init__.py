"""What is asked of a loaded model: its denoiser, its text encoder, its noise schedule, its image-text encoder."""
