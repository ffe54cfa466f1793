"""Personalization of text-to-image diffusion models, in plain torch, diffusers, peft and transformers.

Nothing in here knows ComfyUI: the nodes hand over a network, a text encoder and tensors, and get tensors back.
"""
