"""Workflow 0b: workflow 0 for models that come as three files."""

from __future__ import annotations

from ..graphs import Graph, Node
from .parts import Loaded
from .your_subject import GROUPS, from_photos, recipe_lines

FAMILIES = ("Z-Image", "Flux.1 dev", "Qwen-Image")
HOST = "https://huggingface.co/Comfy-Org"
FILES = {"diffusion_models": ("z_image_bf16.safetensors", f"{HOST}/z_image/resolve/main/split_files"),
         "text_encoders": ("qwen_3_4b.safetensors", f"{HOST}/z_image_turbo/resolve/main/split_files"),
         "vae": ("ae.safetensors", f"{HOST}/z_image_turbo/resolve/main/split_files")}
"""Those of Z-Image, as ComfyUI's own template names them."""


def your_subject_from_files() -> Graph:
    """A diffusion model, a text encoder, a VAE, photos and a word to pictures."""
    graph = Graph("00b Your subject with a model of three files", groups=GROUPS)
    network = _loader(graph, "UNETLoader", "diffusion_models", unet_name="", weight_dtype="default")
    encoder = _loader(graph, "CLIPLoader", "text_encoders", clip_name="", type="lumina2", device="default")
    vae = _loader(graph, "VAELoader", "vae", vae_name="")
    from_photos(graph, Loaded(network[0], encoder[0], vae[0]))
    graph.note(0, "\n".join([
        "1. *Diffusion model*, 2. *text encoder* (and its type), 3. *VAE*: your files.",
        "4. **Choose photos**: 3 to 5 of your subject.", "5. *what_is_it*: one word.", "",
        "Flux.1: *DualCLIPLoader* in place of *Load CLIP*. SD 1.5 (512 pixels) and SDXL (1024) come as one file: use "
        "template 00.", "", "Chosen for you, by model:", "", *recipe_lines(FAMILIES)]), height=400, title="Five edits")
    return graph


def _loader(graph: Graph, class_type: str, folder: str, **inputs: str) -> Node:
    name, address = FILES[folder]
    first = next(iter(inputs))
    return graph.add(0, class_type, inputs | {first: name},
                     files=({"name": name, "directory": folder, "url": f"{address}/{folder}/{name}"},))
