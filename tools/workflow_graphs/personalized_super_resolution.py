"""Workflow 11: a personalized picture, four times as large, by an upscaler that has learned the subject's details."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph
from .notes import explain
from .parts import (
    EXAMPLE_FILE,
    PICTURE_SIZE,
    SAMPLING,
    Loaded,
    encode,
    load_checkpoint,
    prompt_about,
    several_photos,
)

UPSCALER = "pocket_upscaler.safetensors"
TUNING = {"noise": "low (paper)", "steps": 80, "learning_rate": 5e-4, "rank": 16, "resolution": 192, "crop": 96,
          "seed": 0, "run_name": "pocket_upscaler", "batch": 2, "preview_photos": 2, "preview_steps": 6,
          "preview_cfg": 1.0}
UPSCALING = {"seed": 3, "steps": 6, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}


GROUPS = {0: "1 Models", 1: "2 Photos", 2: "3 Train the upscaler", 3: "4 Draw", 4: "5 Enlarge"}


def personalized_super_resolution() -> Graph:
    """A saved personalization's picture, upscaled by a personalized upscaler."""
    graph = Graph("11 Your picture four times as large", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    node = graph.add(0, "CheckpointLoaderSimple", {"ckpt_name": UPSCALER}, title="The upscaler")
    upscaler = Loaded(node[0], base.clip, node[2])
    subject = several_photos(graph, 1, loaded[2])
    inputs = {"model": upscaler.model, "clip": upscaler.clip, "vae": upscaler.vae, "subject": subject[0], **TUNING}
    tuned = graph.add(2, "PersonalizeSuperResolution", inputs, size=(290, 480))
    graph.add(2, "PreviewImage", {"images": tuned[4]}, size=(290, 240), title="Small, as it is, personalized, photo")
    text = prompt_about(graph, 3, "in the snow", loaded[2])
    positive = encode(graph, 3, loaded[1], text, "Positive")
    negative = encode(graph, 3, loaded[1], "", "Negative")
    latent = graph.add(3, "EmptyLatentImage", {"width": SIZE, "height": SIZE, "batch_size": 1})
    start = {"model": loaded[0], "positive": positive, "negative": negative, "latent_image": latent[0],
             "denoise": 1.0, **SAMPLING}
    picture = graph.add(3, "VAEDecode", {"samples": graph.add(3, "KSampler", start)[0], "vae": base.vae})
    graph.add(4, "SaveImage", {"images": picture[0], "filename_prefix": "pocket_dog_small"}, size=(290, 240),
              title="Personalized picture")
    conditions = graph.add(4, "SD_4XUpscale_Conditioning", {
        "images": picture[0], "positive": positive, "negative": negative, "scale_ratio": 4.0,
        "noise_augmentation": tuned[3]}, title="The small picture beside the latents")
    enlarging = {"model": tuned[0], "positive": conditions[0], "negative": conditions[1],
                 "latent_image": conditions[2], **UPSCALING}
    larger = graph.add(4, "KSampler", enlarging, title="KSampler: four times as large")
    upscaled = graph.add(4, "VAEDecode", {"samples": larger[0], "vae": upscaler.vae})
    graph.add(4, "SaveImage", {"images": upscaled[0], "filename_prefix": "pocket_dog_upscaled"}, size=PICTURE_SIZE,
              title="Four times as large")
    explain(graph, [
        "The upscaler learns the fine details of the four photos, then enlarges a picture of the dog that a saved "
        "personalization made (DreamBooth, 4.3).",
        "To see what training it gives, set *noise* to *none = no fine-tuning* and run again. On this small upscaler "
        "the difference is a fraction of a decibel and hard to see.",
        "The pocket upscaler is small: it sharpens the pocket model's world, nothing else."],
            more=["Load x4-upscaler-ema.safetensors as the upscaler; connect its own CLIP, and encode the two texts "
                  "with it once more.",
                  "In Personalize Super-Resolution: resolution 2048, the largest it takes, for pictures of 512; crop "
                  "512, learning_rate 0.0001, steps 200; cfg 4 to 9 when enlarging."])
    return graph
