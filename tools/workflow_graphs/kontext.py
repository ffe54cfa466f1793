"""What workflows 18 to 20 share: Flux.1 Kontext on stock nodes, which is shown a picture beside the prompt, and a
trainer whose numbers are automatic."""

from __future__ import annotations

from ..graphs import Graph, Link, Node
from .parts import Loaded

HOST = "https://huggingface.co"
FILES = (
    ("diffusion_models", "flux1-dev-kontext_fp8_scaled.safetensors",
     f"{HOST}/Comfy-Org/flux1-kontext-dev_ComfyUI/resolve/main/split_files/diffusion_models"),
    ("text_encoders", "clip_l.safetensors", f"{HOST}/comfyanonymous/flux_text_encoders/resolve/main"),
    ("text_encoders", "t5xxl_fp8_e4m3fn_scaled.safetensors",
     f"{HOST}/comfyanonymous/flux_text_encoders/resolve/main"),
    ("vae", "ae.safetensors", f"{HOST}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae"),
)
"""Folder, name and place, as ComfyUI's own template names them."""
SAMPLING = {"seed": 7, "steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
GUIDANCE, SIZE = 2.5, 1024
NEEDED = "**Files you need**:\n\n" + "\n".join(f"- {folder}: `{name}`" for folder, name, _ in FILES)


def load_kontext(graph: Graph, column: int) -> Loaded:
    """The edit model, its two text encoders, its VAE."""
    network, clip, t5, vae = ({"name": name, "directory": folder, "url": f"{place}/{name}"}
                              for folder, name, place in FILES)
    model = graph.add(column, "UNETLoader", {"unet_name": network["name"], "weight_dtype": "default"},
                      files=(network,))
    names = {"clip_name1": clip["name"], "clip_name2": t5["name"]}
    encoders = graph.add(column, "DualCLIPLoader", {**names, "type": "flux", "device": "default"}, files=(clip, t5))
    return Loaded(model[0], encoders[0], graph.add(column, "VAELoader", {"vae_name": vae["name"]}, files=(vae,))[0])


def reference(graph: Graph, column: int, vae: Link, image: Link) -> Link:
    """A picture as the model is shown it: at a size that it knows, as latents."""
    sized = graph.add(column, "FluxKontextImageScale", {"image": image})
    return graph.add(column, "VAEEncode", {"pixels": sized[0], "vae": vae}, title="The picture that is shown")[0]


def empty(graph: Graph, column: int) -> Link:
    """Where pictures start."""
    return graph.add(column, "EmptySD3LatentImage", {"width": SIZE, "height": SIZE, "batch_size": 1})[0]


def draw(graph: Graph, column: int, loaded: Loaded, text: Link | str, latent: Link, shown: Link | None) -> Link:
    """Pictures of a text, with a reference or without."""
    positive = graph.add(column, "CLIPTextEncode", {"clip": loaded.clip, "text": text}, size=(290, 102))[0]
    if shown is not None:
        positive = graph.add(column, "ReferenceLatent", {"conditioning": positive, "latent": shown})[0]
    guided = graph.add(column, "FluxGuidance", {"conditioning": positive, "guidance": GUIDANCE})[0]
    nothing = graph.add(column, "ConditioningZeroOut", {"conditioning": positive})[0]
    sampled = graph.add(column, "KSampler", {"model": loaded.model, "positive": guided, "negative": nothing,
                                             "latent_image": latent, **SAMPLING})[0]
    return graph.add(column, "VAEDecode", {"samples": sampled, "vae": loaded.vae})[0]


def train(graph: Graph, column: int, base: Loaded, subject: Link, run_name: str) -> Node:
    """The trainer; its numbers follow the recipe of the model's family."""
    return graph.add(column, "PersonalizeTrainer", {**base._asdict(), "subject": subject, "run_name": run_name},
                     size=(290, 580))


def show(graph: Graph, column: int, pictures: Link, title: str, prefix: str) -> None:
    """Save Image."""
    graph.add(column, "SaveImage", {"images": pictures, "filename_prefix": prefix}, size=(290, 180), title=title)
