"""Class images of one's own: real photos of the class, each under its caption or 'a {noun}'.

Source: Custom Diffusion (arXiv:2212.04488), 3.2: about 200 real images of the class, with captions like the class
prompt, beside the subject's. DreamBooth (arXiv:2208.12242), 3.2, has the model's own samples instead (`prior_cache`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import require
from ..store.class_images import ClassImages
from ..store.files import canonical_json
from .subject import CLASS_TEMPLATE, fill


def own_class_images(latents: Sequence[Tensor], digests: Sequence[str], captions: Sequence[str | None], *,
                     class_noun: str, size: int, vae: str) -> ClassImages:
    """A pool of given images.

    Args:
        latents: of each image (C, h, w), as a LATENT holds them.
        digests: of each image's pixels.
        captions: of each image, in which {noun} is the class noun; None = 'a {noun}'.
        size: width and height in pixels.
        vae: digest of what encoded them.

    Raises:
        InputError: no image.
    """
    require(bool(latents), "images", "no picture", "1 or more pictures of the class",
            "Connect images, or choose a folder.")
    prompt = fill(CLASS_TEMPLATE, "", class_noun)
    texts = tuple(prompt if caption is None else fill(caption, "", class_noun) for caption in captions)
    content = {"images": list(digests), "captions": texts, "size": size, "vae": vae}
    key = hashlib.blake2b(canonical_json(content).encode(), digest_size=20).hexdigest()
    return ClassImages(class_noun=class_noun, prompt=prompt, latents=torch.stack(list(latents)).float(),
                       key=f"own-{key}", size=size, captions=texts if set(texts) != {prompt} else ())
