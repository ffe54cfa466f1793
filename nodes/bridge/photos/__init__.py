"""Photos from ComfyUI's sockets and folders, and their latents."""
