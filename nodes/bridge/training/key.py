"""What tells one training run from another: the key it is found by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....core.store.runs import run_key
from ....core.subject.subject import Subject
from ..model.denoiser import schedule_of
from ..model.hashes import model_hash, tensor_digest, vae_hash
from ..model.option_hash import object_patch_hash
from ..photos.latents import data_hash
from ..sampling.class_images import model_digest
from ..text.encoder import embedded_digest, is_cachable
from .request import Request
from .token_vectors import image_text_digest, token_vectors_key
from .validation import OF_PICTURES


@dataclass(frozen=True, kw_only=True)
class Hashes:
    """Digests of what a run is trained in and on."""

    model: str
    text_encoder: str
    vae: str
    data: str


def hashes_of(request: Request) -> Hashes:
    """The digests of a request's models and photos."""
    return Hashes(model=model_hash(request.model), text_encoder=model_hash(request.clip.patcher),
                  vae=vae_hash(request.vae), data=data_hash(request.subjects))


def key_of(request: Request, hashes: Hashes, optimizer: str) -> str:
    """The run's key: everything that changes the weights of a step, and nothing else.

    Args:
        hashes: of the loaded models and the photos.
        optimizer: what "auto" stands for.
    """
    return run_key({
        "version": 1,
        "config": request.config.key_fields(),
        "data": hashes.data,
        "validation": validation_key(request),
        "class_images": sorted(pool.key for pool in request.used_class_images),
        "base_model": hashes.model,
        "schedule": schedule_digest(request.model),
        "object_patches": object_patch_hash(request.model),
        "text_encoder": {"hash": hashes.text_encoder, "layer": request.clip.layer_idx,
                         "tokenizer": sorted(request.clip.tokenizer_options.items()),
                         "embeddings": embedding_digests(request.clip, request.subjects)
                         + class_embedding_digests(request)},
        "words": token_vectors_key(request),
        "vae": hashes.vae,
        "compute": {"device": request.model.load_device.type, "dtype": str(request.model.model.get_dtype_inference()),
                    "optimizer": optimizer},
    })


def validation_key(request: Request) -> dict[str, Any]:
    """What the best checkpoint depends on beside the config: the MODEL that samples, where pictures choose it."""
    validation, config = request.validation, request.config.validation
    if validation is None:
        return {}
    key = {"held_out": data_hash(validation.held_out), "dino": validation.dino_path,
           "image_text": None if validation.image_text is None else image_text_digest(validation.image_text)}
    is_by_pictures = config is not None and config.best_by in OF_PICTURES
    return key | ({"sample_with": model_digest(request.sample_with)}
                  if is_by_pictures and request.sample_with is not None else {})


def embedding_digests(clip: Any, subjects: Sequence[Subject]) -> list[str]:
    """What each caption with a textual inversion is read as: the files may change under the same name."""
    captions = (text for subject in subjects for text in
                (*map(subject.caption_of, subject.photos), subject.object_caption,
                 *(one.caption for one in subject.objects)))
    return [embedded_digest(clip, caption) for caption in captions if not is_cachable(caption)]


def class_embedding_digests(request: Request) -> list[str]:
    """The same of the captions that class images of one's own may have."""
    captions = (caption for pool in request.used_class_images for caption in pool.captions)
    return [embedded_digest(request.clip, caption) for caption in captions if not is_cachable(caption)]


def schedule_digest(model: Any) -> str:
    """Digest of the noise schedule, which other nodes may have changed without touching a weight."""
    schedule = schedule_of(model)
    digest = hashlib.blake2b(schedule.prediction.encode(), digest_size=20)
    for table in (schedule.alphas, schedule.sigmas, schedule.timesteps):
        digest.update(tensor_digest(table))
    return digest.hexdigest()
