"""What of a training run is refused before a model is loaded, and what is warned about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....core.data.crops import bucket_step
from ....core.errors import require
from ....core.objectives import prepared_data, warnings_about_masks
from ....core.store.runs import check_run_name
from ....core.subject.identifier import warnings_about_reading
from ....core.subject.photo_warnings import warnings_about_batch, warnings_about_photos, warnings_about_resolution
from ....core.subject.subject import warnings_about_data
from ....core.training.trained_parameters import adapter_configs, learned_vectors
from ....core.wording import has_word
from ..model.denoiser import check_model, is_quantised
from ..model.families import family_of, family_warnings, trained_at
from ..model.gradients import training_memory
from ..model.latent_shapes import size_step
from ..model.rank_by_timestep import has_rank_by_timestep
from ..photos.latents import blank_latents
from ..photos.references import all_have_references, check_references, most_references
from ..text.learned_vectors import PREFIX, embedding_names
from ..text.same_word import check_spelling, has_same_word, same_words
from ..text.vocabulary import unknown_words, vocabularies_of
from .plan import TrainerPlan, make_plan
from .recipe_report import warnings_about_recipes
from .request import Request, training_data
from .sample_with import check_sample_with, warnings_about_sampling
from .token_vectors import check_token_vectors
from .validation import check_validation
from .what_trains import check_what_trains, compatible_programs, full_weights_memory, trained_modules


def check(request: Request) -> TrainerPlan:
    """The plan of a request.

    Raises:
        InputError: for everything that can be refused before a model is loaded or an image encoded.
    """
    check_run_name(request.run_name)
    require(request.clip is not None, "clip", "nothing", "the CLIP of the checkpoint",
            "This checkpoint has no text encoder; load one with CLIPLoader.")
    check_model(request.model, all_have_references(request.subjects))
    check_references(request.model, request.subjects)
    require(not has_rank_by_timestep(request.model), "model", "a model with a LoRA whose rank goes by the timestep "
            "(T-LoRA)", "a model that is the same network at every timestep", "Connect the base model, or put that "
            "file on it with the stock Load LoRA, which applies the whole rank.")
    modules, options = trained_modules(request), request.config.options
    check_what_trains(request, modules)
    check_sample_with(request)
    require(getattr(request.vae, "first_stage_model", None) is not None, "vae", "nothing", "the VAE of the checkpoint",
            "This checkpoint has no VAE; load one with VAELoader.")
    channels = request.model.get_model_object("latent_format").latent_channels
    require(request.vae.latent_channels == channels, "vae", f"a VAE of {request.vae.latent_channels} latent channels",
            f"the {channels} channels of this model", "Connect the VAE that belongs to the checkpoint.")
    check_spelling(request.clip, request.subjects)
    check_class_images(request)
    check_size(request)
    size = request.config.resolution
    blank = blank_latents(request.subjects, size, channels, pixels_per_latent(request.vae))
    data = prepared_data(request.config.objectives, training_data(request, blank))
    token_vectors = learned_vectors(request.config, data)
    check_token_vectors(request, data, token_vectors)
    check_validation(request)
    plan = make_plan(request, compatible_programs(request, modules))
    memory = (training_memory(request.model, request.rows, size, channels, most_references(request.subjects))
              + full_weights_memory(modules, adapter_configs(options), plan.optimizer))
    return TrainerPlan(**vars(plan), data=data, token_vectors=token_vectors, memory=memory)


def check_size(request: Request) -> None:
    """Raise `InputError` for a resolution, or its aspect-ratio buckets, that the network cannot cut into patches."""
    size, step = request.config.resolution, size_step(request.model, pixels_per_latent(request.vae))
    require(size % step == 0, "resolution", size, f"a multiple of {step} pixels for this model",
            f"Use {max(step, size // step * step)}.")
    has_buckets = any(subject.data.shape == "buckets" for subject in request.subjects)
    require(not has_buckets or bucket_step(size) % step == 0, "resolution",
            f"{size} with aspect-ratio buckets in steps of {bucket_step(size)} pixels",
            f"steps that are multiples of {step} pixels for this model", f"Use {16 * step} or more, or square crops.")


def check_class_images(request: Request) -> None:
    """Raise `InputError` where class images that are used have another size than the run."""
    size = request.config.resolution
    for pool in request.used_class_images:
        require(pool.size == size, "class images", f"{pool.size} pixels for {pool.class_noun!r}", f"{size} pixels, the "
                "trainer's resolution", "Set the size to it in the node that the class images come from.")
        for identifier in (identifier for subject in request.subjects for identifier, _ in subject.names):
            named = [caption for caption in pool.captions if has_word(caption, identifier)]
            require(not named, "class images", f"the caption {named[0]!r}" if named else "", "captions without the "
                    f"identifier {identifier!r}, which means the subject alone", "Take it out of that caption.")


def warnings_about_run(request: Request) -> list[str]:
    """What will probably disappoint, although it can be trained."""
    warnings = []
    identifiers = [identifier for subject in request.subjects for identifier, _ in subject.names]
    if request.preview is not None and not _names_one_of(request, request.preview.prompt, identifiers):
        warnings.append(f"the preview's prompt names no identifier ({', '.join(identifiers)}): it shows the class")
    warnings += [f"two subjects share the identifier {' or '.join(map(repr, names))}: they will blend"
                 for names in shared_identifiers(request)]
    warnings += [warning for subject in request.subjects
                 for warning in (*warnings_about_data(subject), *warnings_about_photos(subject))]
    warnings += [*warnings_about_identifiers(request), *warnings_about_sizes(request)]
    if is_quantised(request.sampling_model):
        warnings.append("the model is stored in 8 bits or less, where a merged LoRA is rounded away in part: MODEL has "
                        "it beside the weights; nodes that merge or save MODEL round it into them. Load the saved file "
                        "with Load Personalization or a bypass LoRA loader")
    return [*warnings, *family_warnings(request.model), *warnings_about_recipes(request),
            *warnings_about_sampling(request),
            *warnings_about_own_masks(request), *warnings_about_contexts(request)]


def warnings_about_identifiers(request: Request) -> list[str]:
    """How the loaded text encoders read the subjects' words; words with vectors of their own are not read."""
    learned, vocabularies = {config.word for config in request.config.token_vectors}, vocabularies_of(request.clip)
    words = dict.fromkeys(identifier for subject in request.subjects for identifier, _ in subject.names)
    return [warning for word in words if word not in learned for warning in warnings_about_reading(word, vocabularies)]


def warnings_about_sizes(request: Request) -> list[str]:
    """A batch of more than all photos, and a resolution far from what the model knows."""
    photos = sum(len(subject.photos) for subject in request.subjects)
    family = family_of(request.model).name
    return [*warnings_about_batch(request.config.batch, photos),
            *warnings_about_resolution(request.config.resolution, trained_at(request.model), family)]


def _names_one_of(request: Request, prompt: str, identifiers: Sequence[str]) -> bool:
    """Whether a prompt names a subject, by its identifier or as `embedding:` and its name."""
    names = [f"{PREFIX}{name}" for name in embedding_names(identifiers).values()]
    return (any(has_same_word(request.clip, prompt, name) for name in identifiers)
            or any(has_word(prompt, name) for name in names))


def shared_identifiers(request: Request) -> list[list[str]]:
    """Identifiers of two subjects, each with its spellings. The same words in a photo of several objects and in photos
    of one are one."""
    plain = [name for subject in request.subjects if not subject.objects for name in subject.names]
    scenes = {name for subject in request.subjects if subject.objects for name in subject.names}
    names = [identifier for identifier, _ in (*plain, *(scenes - set(plain)))]
    return sorted(sorted(set(group)) for group in same_words(request.clip, names) if len(group) > 1)


def warnings_about_own_masks(request: Request) -> list[str]:
    """Masks and several objects of the photos that no objective reads."""
    has_masks = any(photo.mask is not None for subject in request.subjects for photo in subject.photos
                    if not subject.data.inpaint_masks)
    has_objects = any(len(subject.objects) > 1 for subject in request.subjects)
    return warnings_about_masks(request.config.objectives, has_masks, has_objects)


def warnings_about_contexts(request: Request) -> list[str]:
    """Contexts that start from words the text encoder was never taught: they act as names."""
    words = [word for objective in request.config.objectives for word in objective.start_words]
    unknown = unknown_words(request.clip, words)
    if not unknown:
        return []
    return [f"contexts start from {', '.join(map(repr, unknown))}, which this text encoder was never taught and reads "
            "as names: they take part of the subject along. Use words of its captions, such as a and on"]


def pixels_per_latent(vae: Any) -> int:
    """Pixels per latent of one picture; VAEs of films say it by time, height and width."""
    ratio = vae.downscale_ratio
    sides = [part for part in (ratio if isinstance(ratio, tuple) else (ratio,)) if isinstance(part, int)]
    return sides[-1] if sides else 8
