"""What a training run is asked for: its key, its data, and everything that is refused before a model is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch

from ...core.config import TrainingConfig
from ...core.data import TrainingData
from ...core.errors import require
from ...core.objectives import MaskedLoss, ObjectSpecificLoss, PriorPreservation
from ...core.prior_cache import ClassImages
from ...core.runs import check_run_name, run_key
from ...core.subject import Subject, warnings_about_data
from ...core.trainable import WordVectors
from .families import family_warnings
from .hashes import model_hash, tensor_digest, vae_hash
from .images import PhotoLatents, blank_latents, data_hash, make_examples
from .judging import check_validation
from .model import check_model, is_quantised, schedule_of
from .option_hash import object_patch_hash
from .sockets import ObjectiveChain, PreviewSettings, Validation
from .text import embedded_digest, is_cachable
from .training_words import check_words, image_text_digest, prepared_data, words_key
from .what_trains import check_what_trains, optimizer_name, readers_of_result


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Everything that PersonalizeTrainer was given."""

    model: Any
    clip: Any
    vae: Any
    subjects: tuple[Subject, ...]
    chain: ObjectiveChain
    config: TrainingConfig
    run_name: str
    preview: PreviewSettings | None = None
    validation: Validation | None = None
    starts: WordVectors = field(default_factory=dict)
    image_text: Any = None

    @cached_property
    def key(self) -> str:
        """The run's key: everything that changes the weights of a step, and nothing else."""
        return run_key({
            "version": 1,
            "config": self.config.key_fields(),
            "data": data_hash(self.subjects),
            "validation": validation_key(self.validation),
            "class_images": sorted(pool.key for pool in used_class_images(self)),
            "base_model": model_hash(self.model),
            "schedule": schedule_digest(self.model),
            "object_patches": object_patch_hash(self.model),
            "text_encoder": {"hash": model_hash(self.clip.patcher), "layer": self.clip.layer_idx,
                             "tokenizer": sorted(self.clip.tokenizer_options.items()),
                             "embeddings": embedding_digests(self.clip, self.subjects)},
            "words": words_key(self),
            "vae": vae_hash(self.vae),
            "compute": {"device": self.model.load_device.type, "dtype": str(self.model.model.get_dtype_inference()),
                        "optimizer": optimizer_name(self)},
        })

    @property
    def is_text_trained(self) -> bool:
        return self.config.options.text_encoder_rate > 0

    @property
    def rows(self) -> int:
        """Rows of the largest forward: the subject's, and those that objectives add."""
        batch, objects = self.config.batch, max(len(subject.words) for subject in self.subjects)
        return batch + sum(objective.most_rows(batch, objects) for objective in self.config.objectives)

    def metadata(self, step: int, exposure: str) -> dict[str, Any]:
        """What the adapter file says about itself."""
        return {
            "version": 1,
            "identifiers": [identifier for subject in self.subjects for identifier, _ in subject.words],
            "class_nouns": [noun for subject in self.subjects for _, noun in subject.words],
            "captions": [subject.caption for subject in self.subjects],
            "data_options": [asdict(subject.data) for subject in self.subjects],
            "base_model_hash": model_hash(self.model),
            "text_encoder_hash": model_hash(self.clip.patcher),
            "config": self.config.to_dict() | {"steps": step},
            "data_hash": data_hash(self.subjects),
            "steps": step,
            "exposure": exposure,
            "readers": readers_of_result(self),
        }


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


def schedule_digest(model: Any) -> str:
    """Digest of the noise schedule, which other nodes may have changed without touching a weight."""
    schedule = schedule_of(model)
    digest = hashlib.blake2b(schedule.prediction.encode(), digest_size=20)
    for table in (schedule.alphas, schedule.sigmas, schedule.timesteps):
        digest.update(tensor_digest(table))
    return digest.hexdigest()


def check(request: Request) -> None:
    """Raise `InputError` for everything that can be refused before a model is loaded or an image encoded."""
    check_run_name(request.run_name)
    require(request.clip is not None, "clip", "nothing", "the CLIP of the checkpoint",
            "This checkpoint has no text encoder; load one with CLIPLoader.")
    check_model(request.model)
    check_what_trains(request)
    require(getattr(request.vae, "first_stage_model", None) is not None, "vae", "nothing", "the VAE of the checkpoint",
            "This checkpoint has no VAE; load one with VAELoader.")
    channels = request.model.get_model_object("latent_format").latent_channels
    require(request.vae.latent_channels == channels, "vae", f"a VAE of {request.vae.latent_channels} latent channels",
            f"the {channels} channels of this model", "Connect the VAE that belongs to the checkpoint.")
    check_class_images(request)
    probe = training_data(request, blank_latents(request.subjects, request.config.resolution, channels,
                                                 _downscale(request.vae)))
    data = prepared_data(request, probe)
    for objective in request.config.objectives:
        objective.check(data)
    check_words(request, data)
    check_validation(request)


def warnings_about_run(request: Request) -> list[str]:
    """What will probably disappoint, although it can be trained."""
    warnings = []
    identifiers = [identifier for subject in request.subjects for identifier, _ in subject.words]
    if request.preview is not None and not any(name in request.preview.prompt for name in identifiers):
        warnings.append(f"the preview's prompt names no identifier ({', '.join(identifiers)}): it shows the class")
    warnings += [f"two subjects share the identifier {name!r}: they will blend"
                 for name in shared_identifiers(request)]
    warnings += [warning for subject in request.subjects for warning in warnings_about_data(subject)]
    if is_quantised(request.model):
        warnings.append("the model is stored in fp8, where a merged LoRA is rounded away in part: MODEL has it beside "
                        "the weights; load the saved file with Load Personalization or a bypass LoRA loader")
    return warnings + family_warnings(request.model) + warnings_about_masks(request)


def shared_identifiers(request: Request) -> list[str]:
    """Identifiers of two subjects. The same words in a photo of several objects and in photos of one are one."""
    plain = [words for subject in request.subjects if not subject.objects for words in subject.words]
    scenes = {words for subject in request.subjects if subject.objects for words in subject.words}
    names = [identifier for identifier, _ in (*plain, *(scenes - set(plain)))]
    return sorted({name for name in names if names.count(name) > 1})


def warnings_about_masks(request: Request) -> list[str]:
    """Masks that nothing reads, and an object term without the whole image beside it (METHODS 3, eq. 4)."""
    masked = {type(objective): objective for objective in request.config.objectives}
    has_masks = any(photo.mask is not None for subject in request.subjects for photo in subject.photos)
    warnings = []
    if has_masks and not any(isinstance(objective, MaskedLoss | ObjectSpecificLoss) for objective in masked.values()):
        warnings.append("the photos have masks, but no objective uses them: connect Masked Loss")
    if ObjectSpecificLoss not in masked and any(len(subject.objects) > 1 for subject in request.subjects):
        warnings.append("a photo has several objects, but nothing tells them apart: turn on Masked Loss's object term")
    plain = masked.get(MaskedLoss)
    if ObjectSpecificLoss in masked and isinstance(plain, MaskedLoss) and plain.background_weight < 1:
        warnings.append(f"the object term is on with a background weight of {plain.background_weight:g}; "
                        "the paper's loss (eq. 4) has 1")
    return warnings


def used_class_images(request: Request) -> tuple[ClassImages, ...]:
    """The pools that an objective draws from."""
    is_used = any(isinstance(objective, PriorPreservation) for objective in request.config.objectives)
    return request.chain.class_images if is_used else ()


def check_class_images(request: Request) -> None:
    """Raise `InputError` where class images that are used have another size than the run."""
    size = request.config.resolution
    for pool in used_class_images(request):
        require(pool.size == size, "class images", f"{pool.size} pixels for {pool.class_noun!r}", f"{size} pixels, the "
                "trainer's resolution", "Set Prior Sample Gen's size to it.")


def training_data(request: Request, latents: PhotoLatents) -> TrainingData:
    """Photos (raw VAE latents of all views) and class images, all in the model's latent space."""
    dilation = max([getattr(objective, "dilation", 0) for objective in request.config.objectives], default=0)
    with torch.inference_mode(False), torch.no_grad():
        examples = make_examples(request.model, request.subjects, latents, request.config.resolution, dilation)
        pools = {pool.class_noun: request.model.model.process_latent_in(pool.latents.clone())
                 for pool in used_class_images(request)}
    prompts = {pool.class_noun: pool.prompt for pool in used_class_images(request)}
    return TrainingData(examples=examples, class_latents=pools, class_prompts=prompts)


def _downscale(vae: Any) -> int:
    return vae.downscale_ratio if isinstance(vae.downscale_ratio, int) else 8
