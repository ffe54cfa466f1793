"""A saved file in stock nodes shows what the trainer's MODEL shows."""

from __future__ import annotations

from safetensors.numpy import load_file

from comfyui_personalize.tests.e2e.conftest import nodes_of, only, workflow


def latent_graph(model, clip, rest, prefix):
    """Sample the same noise with any MODEL and CLIP, and save the latent without rounding."""
    return {**rest, "p": {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": "a sks dog in the snow"}},
            "e": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
            "s": {"class_type": "KSampler", "inputs": {
                "model": model, "positive": ["p", 0], "negative": ["p", 0], "latent_image": ["e", 0], "seed": 3,
                "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}},
            "l": {"class_type": "SaveLatent", "inputs": {"samples": ["s", 0], "filename_prefix": prefix}}}


def sampled(server, prefix):
    """The latent that SaveLatent wrote."""
    (path,) = (server.base / "output").glob(f"{prefix}_*.latent")
    return load_file(path)["latent_tensor"]


def test_stock_lora_loader_gives_the_picture_of_the_trainers_model(server):
    graph = workflow(1)
    (trainer,), saved = nodes_of(graph, "PersonalizeTrainer"), nodes_of(graph, "PersonalizeSave")
    mine = only(graph, trainer, *saved)
    server.client.run(latent_graph([trainer, 0], [trainer, 1], mine, "mine"))
    stock = {"c": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "pocket.safetensors"}},
             "r": {"class_type": "LoraLoader", "inputs": {
                 "model": ["c", 0], "clip": ["c", 1], "lora_name": "personalize/pocket_dog.safetensors",
                 "strength_model": 1.0, "strength_clip": 1.0}}}
    server.client.run(latent_graph(["r", 0], ["r", 1], stock, "stock"))
    server.client.run(latent_graph(["c", 0], ["c", 1], {"c": stock["c"]}, "base"))
    assert abs(sampled(server, "mine") - sampled(server, "stock")).max() <= 1e-3
    assert abs(sampled(server, "mine") - sampled(server, "base")).max() > 1e-2, "training changed nothing"
