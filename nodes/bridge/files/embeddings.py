"""Learned vectors as files: identifiers among ComfyUI's embeddings, where `embedding:<name>` in stock prompts finds
them, and ICO's contexts beside the adapter, in a file that no loader lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from torch import Tensor

from ....core.errors import InputError, require
from ....core.model.contracts import WordVectors
from ....core.store.files import read_content, tensors_to_bytes
from ....core.store.metadata import EMBEDDING, check
from ..sockets import Personalization
from ..text.learned_vectors import (
    CLIP_ENCODERS,
    PREFIX,
    embedding_name,
    embedding_names,
    file_tensors,
    from_file_tensors,
    reading_clip,
)

SUFFIX = ".safetensors"
CONTEXTS = ".contexts"
CHANGED = "{} is not as it was saved (its checksum differs): another program changed it, or the disk damaged it"
EMBEDDINGS = "embeddings"
"""Key in an adapter file's metadata: for each learned identifier the name of its file."""
PROGRAMS = ("ComfyUI: embedding: in stock CLIPTextEncode, where a space must stand before the name and a space or a "
           "comma behind it (CLIPs of this extension need none); diffusers: load_textual_inversion")


def embeddings_folder() -> Path:
    """Where files are saved: the first of ComfyUI's folders for embeddings."""
    return Path(folder_paths.get_folder_paths("embeddings")[0])


def embedding_paths(learned: WordVectors, name: Path) -> dict[str, Path]:
    """For each learned identifier its file below the embeddings folder, without ending: the personalization's own name,
    with the identifier where there are several. Names have no spaces, for a prompt would end them there."""
    plain = Path(*(embedding_name(part) for part in name.parts))
    if len(learned) == 1:
        return dict.fromkeys(learned, plain)
    names = embedding_names(learned)
    return {word: plain.with_name(f"{plain.name}_{names[word]}") for word in learned}


def embedding_files(personalization: Personalization, adapter: Path, name: Path) -> dict[Path, bytes]:
    """The content of every file that belongs to an adapter file of that name."""
    paths = embedding_paths(personalization.token_vectors, name)
    files = {embeddings_folder() / path.with_name(path.name + SUFFIX):
             tensors_to_bytes(file_tensors(personalization.token_vectors[word]), {"word": word})
             for word, path in paths.items()}
    if personalization.contexts:
        tensors = {f"{word}.{key}": tensor for word, found in personalization.contexts.items()
                   for key, tensor in file_tensors(found).items()}
        files[adapter.with_name(name.name + CONTEXTS)] = tensors_to_bytes(tensors, personalization.metadata)
    return files


def embedding_metadata(personalization: Personalization, name: Path) -> dict[str, Any]:
    """What the adapter file says of its embeddings."""
    paths = embedding_paths(personalization.token_vectors, name)
    return {EMBEDDINGS: {word: path.as_posix() for word, path in paths.items()}} if paths else {}


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedEmbeddings:
    """The vectors of each learned identifier, by text encoder; and what is to be said of their files."""

    vectors: dict[str, dict[str, Tensor]]
    warnings: list[str]


def load_embeddings(metadata: Mapping[str, Any]) -> LoadedEmbeddings:
    """The embeddings that belong to an adapter file.

    Raises:
        InputError: for a file that is missing or damaged.
    """
    vectors: dict[str, dict[str, Tensor]] = {}
    warnings = []
    for word, name in metadata.get(EMBEDDINGS, {}).items():
        path = folder_paths.get_full_path("embeddings", name + SUFFIX)
        if path is None:
            raise InputError("embedding", f"no file {name}{SUFFIX}", "the vectors that belong to this personalization",
                             "Copy the file into ComfyUI's embeddings folder, or save the personalization again.")
        content = read_content(Path(path))
        check(Path(path), content.metadata, EMBEDDING)
        _check_vectors(Path(path), content.tensors)
        vectors[word] = from_file_tensors(content.tensors)
        warnings += [] if content.is_as_written else [CHANGED.format(path)]
    return LoadedEmbeddings(vectors=vectors, warnings=warnings)


def _check_vectors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    known = set(CLIP_ENCODERS.values())
    fits = all(name in known and tensor.ndim == 2 and tensor.is_floating_point() and tensor.numel()
               for name, tensor in tensors.items())
    got = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()) or "no tensor"
    require(bool(tensors) and fits, "embedding", f"{path}: {got}",
            f"vectors (m, width) for one or more of {', '.join(sorted(known))}",
            "Save the personalization again, or copy the file from where it was saved.")


def clip_with_embeddings(clip: Any, metadata: Mapping[str, Any], learned: WordVectors) -> Any:
    """The CLIP that reads learned vectors by the names of their files, and by the names that the trainer gave them.

    Raises:
        InputError: for a CLIP with other text encoders, or other widths.
    """
    if clip is None or not learned:
        return clip
    for word, vectors in learned.items():
        for kind, tensor in vectors.items():
            encoder = getattr(clip.cond_stage_model, CLIP_ENCODERS[kind], None)
            width = None if encoder is None else encoder.transformer.get_input_embeddings().weight.shape[1]
            require(width == tensor.shape[1], "clip", f"a CLIP whose {CLIP_ENCODERS[kind]} has "
                    f"{'no tokens' if width is None else f'tokens of width {width}'}",
                    f"width {tensor.shape[1]}, as {word!r} was learned with", "Connect the checkpoint that it was "
                    "trained with.")
    trainers = embedding_names(learned)
    return reading_clip(clip, {name[word]: found for name in (trainers, metadata[EMBEDDINGS])
                               for word, found in learned.items()})


def identifiers(metadata: Mapping[str, Any]) -> list[str]:
    """How to write each subject in a prompt."""
    names = metadata.get(EMBEDDINGS, {})
    return [f"{PREFIX}{names[word]}" if word in names else word for word in metadata["identifiers"]]
