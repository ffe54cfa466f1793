"""What tells one training run from another: the key it is found by, and what its files say about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ....core.store.runs import run_key
from ....core.subject.subject import Subject
from ..model.denoiser import schedule_of
from ..model.hashes import model_hash, tensor_digest, vae_hash
from ..model.option_hash import object_patch_hash
from ..photos.latents import data_hash
from ..sockets import Validation
from ..text.encoder import embedded_digest, is_cachable
from .request import Request, used_class_images
from .what_trains import optimizer_name, readers_of_result
from .words import image_text_digest, words_key


def key_of(request: Request) -> str:
    """The run's key: everything that changes the weights of a step, and nothing else."""
    return run_key({
        "version": 1,
        "config": request.config.key_fields(),
        "data": data_hash(request.subjects),
        "validation": validation_key(request.validation),
        "class_images": sorted(pool.key for pool in used_class_images(request)),
        "base_model": model_hash(request.model),
        "schedule": schedule_digest(request.model),
        "object_patches": object_patch_hash(request.model),
        "text_encoder": {"hash": model_hash(request.clip.patcher), "layer": request.clip.layer_idx,
                         "tokenizer": sorted(request.clip.tokenizer_options.items()),
                         "embeddings": embedding_digests(request.clip, request.subjects)
                         + class_embedding_digests(request)},
        "words": words_key(request),
        "vae": vae_hash(request.vae),
        "compute": {"device": request.model.load_device.type, "dtype": str(request.model.model.get_dtype_inference()),
                    "optimizer": optimizer_name(request)},
    })


def metadata_of(request: Request, step: int, exposure: str, names: Iterable[str]) -> dict[str, Any]:
    """What the adapter file, with tensors of these names, says about itself."""
    return {
        "version": 1,
        "identifiers": [identifier for subject in request.subjects for identifier, _ in subject.words],
        "class_nouns": [noun for subject in request.subjects for _, noun in subject.words],
        "captions": [subject.caption for subject in request.subjects],
        "data_options": [asdict(subject.data) for subject in request.subjects],
        "base_model_hash": model_hash(request.model),
        "text_encoder_hash": model_hash(request.clip.patcher),
        "config": request.config.to_dict() | {"steps": step},
        "data_hash": data_hash(request.subjects),
        "steps": step,
        "exposure": exposure,
        "readers": readers_of_result(request, names),
    } | request.own_metadata()


def validation_key(validation: Validation | None) -> dict[str, Any]:
    """What the best checkpoint depends on beside the config."""
    if validation is None:
        return {}
    return {"held_out": data_hash(validation.held_out), "dino": validation.dino_path,
            "image_text": None if validation.image_text is None else image_text_digest(validation.image_text)}


def embedding_digests(clip: Any, subjects: Sequence[Subject]) -> list[str]:
    """What each caption with a textual inversion is read as: the files may change under the same name."""
    captions = (text for subject in subjects for text in
                (*map(subject.caption_of, subject.photos), subject.object_caption,
                 *(words.caption for words in subject.objects)))
    return [embedded_digest(clip, caption) for caption in captions if not is_cachable(caption)]


def class_embedding_digests(request: Request) -> list[str]:
    """The same of the captions that class images of one's own may have."""
    captions = (caption for pool in used_class_images(request) for caption in pool.captions)
    return [embedded_digest(request.clip, caption) for caption in captions if not is_cachable(caption)]


def schedule_digest(model: Any) -> str:
    """Digest of the noise schedule, which other nodes may have changed without touching a weight."""
    schedule = schedule_of(model)
    digest = hashlib.blake2b(schedule.prediction.encode(), digest_size=20)
    for table in (schedule.alphas, schedule.sigmas, schedule.timesteps):
        digest.update(tensor_digest(table))
    return digest.hexdigest()
