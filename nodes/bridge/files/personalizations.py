"""Personalizations as files among ComfyUI's LoRAs, where Load Personalization and the stock LoraLoader find them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import comfy.lora
import folder_paths
from torch import Tensor

from ....core.errors import InputError, require
from ....core.learning.adapter.file_check import layers_of
from ....core.store.files import holds, make_folder, read_content, read_metadata, tensors_to_bytes, write_new_bytes
from ....core.store.metadata import ADAPTER, CHOOSE, NewerVersion, check
from ....core.store.runs import check_run_name
from ....core.store.temporary import sweep
from ....core.wording import require_text
from ..model.bypass import adapters_of
from ..model.hashes import model_hash
from ..sampling.sampling import patched
from ..sockets import Personalization
from ..text.learned_vectors import embedding_names
from .embeddings import (
    CHANGED,
    EMBEDDINGS,
    PROGRAMS,
    LoadedEmbeddings,
    clip_with_embeddings,
    embedding_files,
    embedding_metadata,
    identifiers,
    load_embeddings,
)
from .run_results import RUN, find_result, vectors_of

SUFFIX = ".safetensors"
IDENTIFIERS = "identifiers"
TEXT_LAYERS = ("lora_te", "text_encoders.")


def loras_folder() -> Path:
    """Where files are saved: the first of ComfyUI's LoRA folders."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def save_personalization(personalization: Personalization, name: str) -> Path:
    """Save below the LoRA folder (learned vectors below the embeddings folder) and return the adapter file's path.

    Files of equal content are left alone; one of other content is never replaced: new ones get the suffix -2, -3, ...

    Raises:
        InputError: for a name that leads out of the folder.
        StorageError: for a full disk.
    """
    for candidate in _candidates(check_name(name)):
        files = _files(personalization, candidate)
        if _save_all(files):
            return list(files)[-1]
    raise AssertionError("the candidates never end")


def _save_all(files: Mapping[Path, bytes]) -> bool:
    """Write what is not there yet, in order; False, with nothing written, where anything has other content."""
    written: list[Path] = []
    for path, data in files.items():
        make_folder(path.parent)
        sweep(path.parent)
        if write_new_bytes(path, data):
            written.append(path)
        elif not holds(path, data):
            for own in written:
                own.unlink(missing_ok=True)
            return False
    return True


def _files(personalization: Personalization, name: Path) -> dict[Path, bytes]:
    """The content of every file of a name: the learned vectors first, and the adapter file, which names them, last."""
    adapter = loras_folder() / name.with_name(name.name + SUFFIX)
    metadata = {**personalization.metadata, **embedding_metadata(personalization, name)}
    return {**embedding_files(personalization, adapter, name),
            adapter: tensors_to_bytes(personalization.lora, metadata)}


def check_name(name: str) -> Path:
    """The name as a relative path without ending; `/` separates folders.

    Raises:
        InputError: for a name that leads out of the folder or is no name on some system.
    """
    return Path(*(check_run_name(part, "name") for part in name.strip().removesuffix(SUFFIX).split("/")))


def _candidates(stem: Path) -> Iterator[Path]:
    yield stem
    number = 2
    while True:
        yield stem.with_name(f"{stem.name}-{number}")
        number += 1


def list_personalizations() -> list[str]:
    """Names of the files among the LoRAs that this extension wrote; whatever else lies there is passed over."""
    names = [name for name in folder_paths.get_filename_list("loras") if name.endswith(SUFFIX) and _is_unicode(name)]
    paths = {name: folder_paths.get_full_path("loras", name) for name in names}
    return [name for name, path in paths.items() if path is not None and _is_ours(Path(path))]


def _is_unicode(name: str) -> bool:
    """Whether a name can be shown: a file system may hold bytes that are no text."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _is_ours(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:  # gone, or a link to nothing
        return False
    return _has_metadata(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4096)
def _has_metadata(path: Path, modified: int, size: int) -> bool:
    """Reads a file's header once, until the file changes."""
    try:
        return IDENTIFIERS in read_metadata(path)
    except NewerVersion as newer:  # choosing it says that the extension must be updated
        return IDENTIFIERS in newer.value
    except InputError:
        return False


def find_file(name: str) -> Path:
    """The path of a file among the LoRAs, or of a run's result.

    Raises:
        InputError: when there is none, it lies outside, or over the API the name is no text.
    """
    require_text("name", name)
    if name.startswith(RUN):
        return find_result(name)
    path = None if ".." in Path(name).parts or Path(name).is_absolute() else folder_paths.get_full_path("loras", name)
    if path is None:
        raise InputError("name", repr(name), "a file in ComfyUI's LoRA folders",
                         "Choose one from the list, or save one with Save Personalization.")
    return Path(path)


def file_state(name: str) -> str:
    """Changes whenever the file does."""
    path = find_file(name)
    try:
        status = path.stat()
    except OSError as reason:
        raise InputError("file", f"{path}: {reason.strerror}", "a file that can be read", CHOOSE) from reason
    return f"{status.st_mtime_ns}-{status.st_size}"


def check_file(name: str) -> dict[str, Any]:
    """The metadata of a personalization.

    Raises:
        InputError: for a missing, pickled, corrupt or foreign file.
    """
    return _checked(find_file(name), read_metadata(find_file(name)))


def _checked(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    require(IDENTIFIERS in metadata, "file", f"{path}, which is no personalization",
            "a file that Save Personalization wrote", "Choose an adapter file, not a training state or a cache.")
    check(path, metadata, ADAPTER)
    return metadata


def load_personalization(name: str, model: Any, clip: Any, strength_model: float,
                         strength_clip: float) -> tuple[Any, Any, dict[str, Any], list[str]]:
    """MODEL and CLIP with the personalization on top, its metadata, and warnings.

    Raises:
        InputError: for a file that cannot be used with this model.
    """
    path = find_file(name)
    content = read_content(path)
    metadata, tensors = _checked(path, content.metadata), content.tensors
    layers = layers_of(path, tensors)
    metadata, embeddings = _with_embeddings(name, path, metadata)
    min_rank = metadata["config"].get("options", {}).get("min_rank", 0)
    models = patched(model, clip, tensors, strength_model, strength_clip, min_rank)
    before, after = ((model, clip and clip.patcher), (models[0], models[1] and models[1].patcher))
    is_taken = any(map(_has_more, after, before))
    require(is_taken or not tensors, "model", f"a model with none of the layers of {name}",
            "the model family it was trained on", "Connect the checkpoint that it was trained with.")
    warnings = [*([] if content.is_as_written else [CHANGED.format(path)]), *embeddings.warnings,
                *_warnings_about_layers(path, layers, model, clip), *_warnings(metadata, model, clip, tensors)]
    return models[0], clip_with_embeddings(models[1], metadata, embeddings.vectors), metadata, warnings


def _with_embeddings(name: str, path: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], LoadedEmbeddings]:
    """The learned vectors of a file or of a run's result, and the metadata that names them."""
    if not name.startswith(RUN):
        return metadata, load_embeddings(metadata)
    learned = vectors_of(path, metadata).token_vectors
    named = {EMBEDDINGS: embedding_names(learned)} if learned else {}
    return metadata | named, LoadedEmbeddings(vectors={word: dict(found) for word, found in learned.items()},
                                              warnings=[])


def _warnings_about_layers(path: Path, layers: Collection[str], model: Any, clip: Any) -> list[str]:
    known = comfy.lora.model_lora_keys_unet(model.model, {})
    if clip is not None:
        known = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, known)
    foreign = [layer for layer in layers if layer not in known
               and (clip is not None or not layer.startswith(TEXT_LAYERS))]
    if not foreign:
        return []
    return [f"{len(foreign)} of {len(layers)} layers of {path} are not in this model, and are left out (the "
            f"first: {foreign[0]}): it was trained on another model, or the file was changed"]


def _has_more(after: Any, before: Any) -> bool:
    """Whether a patcher got more patches, or other adapters beside its weights, than it had before."""
    if after is None:
        return False
    return _patch_count(after) > _patch_count(before) or adapters_of(after) != adapters_of(before)


def _patch_count(patcher: Any) -> int:
    return sum(len(patches) for patches in patcher.patches.values())


def _warnings(metadata: Mapping[str, Any], model: Any, clip: Any, tensors: Mapping[str, Tensor]) -> list[str]:
    warnings = []
    if metadata["base_model_hash"] != model_hash(model):
        warnings.append("this was trained on another base model (or with other LoRAs on it); likeness may suffer")
    if clip is not None and metadata["text_encoder_hash"] != model_hash(clip.patcher):
        warnings.append("this was trained with another text encoder; the identifier may mean something else here")
    if clip is None and any(name.startswith(TEXT_LAYERS) for name in tensors):
        warnings.append("no CLIP is connected, and this personalization trained the text encoder, too")
    return warnings


def describe(metadata: Mapping[str, Any]) -> str:
    """What a personalization is, for people."""
    config = metadata["config"]
    return "\n".join([
        f"captions: {', '.join(metadata['captions'])}",
        f"steps: {metadata['steps']} at learning rate {config['learning_rate']:g}, {config['resolution']} px",
        str(metadata["exposure"]),
        f"read by: {metadata['readers']}",
        *([f"in prompts: {', '.join(identifiers(metadata))}; read by: {PROGRAMS}"] if EMBEDDINGS in metadata else []),
    ])
