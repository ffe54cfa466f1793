"""The image-text encoder (CLIP's structure): where it lies, and how the two kinds of readers get it.

The committed file holds the image tower, both projections and the scale. The text tower with CLIP's whole token
table is `checkpoints/pocket.safetensors`'s own, and is joined here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import CONTEXT_DIM, SIZE, TEXT_CONFIG, VISION_CONFIG
from .rare_words import tokenizer_folder
from .rows import expand_table

IMAGE_TEXT_FOLDER: Final = Path(__file__).parent / "image_text"
IMAGE_TEXT_FILE: Final = IMAGE_TEXT_FOLDER / "pocket_clip.safetensors"
IMAGE_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own normalisation, which ComfyUI applies to every CLIP_VISION."""
CHECKPOINT: Final = Path(__file__).parent / "checkpoints" / "pocket.safetensors"
TEXT_ROOT: Final = "cond_stage_model."
TEXT_PREFIX: Final = f"{TEXT_ROOT}transformer."
STAMP: Final = "made_from.txt"
MODEL, VERSION = "pocket", "2"
"""Key and value of the file's metadata that say whose text encoder it goes with; the first model's has none."""
EXPANDED: Final = Path(__file__).parent / "image_text_expanded"
"""Where the joined transformers model is written; git does not track it."""


def save_image_text(vision: Mapping[str, Tensor], text_projection: Tensor, logit_scale: Tensor, path: Path) -> None:
    """Writes the compact file in float16, under transformers' CLIPModel names."""
    tensors = {key: tensor for key, tensor in vision.items() if not key.endswith("position_ids")}
    tensors |= {"text_projection.weight": text_projection, "logit_scale": logit_scale}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.detach().half().contiguous() for key, tensor in tensors.items()}, path,
              metadata={MODEL: VERSION})


def text_projection(path: Path = IMAGE_TEXT_FILE) -> Tensor | None:
    """The (P, D) matrix after the text encoder's pooled output, or None where the file is not there, damaged, or of
    another pocket model than this one.

    ComfyUI's checkpoint loader for Stable Diffusion leaves every text projection out, so the checkpoint cannot hold it.
    """
    try:
        with safe_open(path, "pt") as file:
            is_meant = (file.metadata() or {}).get(MODEL) == VERSION
            return file.get_tensor("text_projection.weight") if is_meant else None
    except (OSError, SafetensorError):
        return None


def transformers_folder(folder: Path | None = None, tokenizer: Path | None = None) -> Path:
    """The whole CLIP as a folder that transformers' CLIPModel reads; written on the first call.

    Args:
        folder: where; by default beside the weights, or below the temporary folder where that cannot be written.
        tokenizer: folder of CLIP's `vocab.json` and `merges.txt`; by default that of ComfyUI's checkout.
    """
    places = [folder] if folder else [EXPANDED, Path(tempfile.gettempdir()) / "comfyui_personalize_pocket_clip"]
    stamp = f"{IMAGE_TEXT_FILE.stat().st_size} {IMAGE_TEXT_FILE.stat().st_mtime_ns} {CHECKPOINT.stat().st_mtime_ns}"
    for place in places:
        try:
            if not is_stamped(place, stamp):
                place.mkdir(parents=True, exist_ok=True)
                with FileLock(place / "made.lock"):  # another process may be making it
                    if not is_stamped(place, stamp):
                        write_transformers(place, tokenizer or tokenizer_folder())
                        (place / STAMP).write_text(stamp)
            return place
        except OSError as error:
            reason = error
    raise reason


def is_stamped(place: Path, stamp: str) -> bool:
    """Whether the folder was made, to its end, from the files that the stamp names."""
    return (place / STAMP).is_file() and (place / STAMP).read_text() == stamp


def write_transformers(place: Path, tokenizer: Path) -> None:
    """`config.json`, `preprocessor_config.json`, weights and tokenizer."""
    place.mkdir(parents=True, exist_ok=True)
    (place / STAMP).unlink(missing_ok=True)
    tensors = model_tensors()
    files = {"config.json": model_config(text_layers(tensors)), "preprocessor_config.json": preprocessor_config()}
    for name, content in files.items():
        (place / name).write_text(json.dumps(content, indent=1) + "\n")
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, place / name)
    part = place / "model.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(place / "model.safetensors")


def model_tensors() -> dict[str, Tensor]:
    """Every tensor of the CLIPModel, float16: the checkpoint's text tower with its whole table, and the small file."""
    with safe_open(CHECKPOINT, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys() if key.startswith(TEXT_ROOT)}  # noqa: SIM118
    text = {key.removeprefix(TEXT_PREFIX): tensor for key, tensor in expand_table(state).items()}
    return text | load_file(IMAGE_TEXT_FILE)


def text_layers(tensors: Mapping[str, Tensor]) -> int:
    """Layers of the text tower."""
    return sum(key.startswith("text_model.") and key.endswith(".layer_norm1.weight") for key in tensors)


def model_config(layers: int = TEXT_CONFIG["num_hidden_layers"]) -> dict[str, Any]:
    """transformers' CLIPConfig.

    Args:
        layers: of the text tower.
    """
    return {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": CONTEXT_DIM,
            "text_config": {**TEXT_CONFIG, "num_hidden_layers": layers}, "vision_config": dict(VISION_CONFIG),
            "torch_dtype": "float16"}


def preprocessor_config() -> dict[str, Any]:
    """transformers' CLIPImageProcessor."""
    return {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": SIZE},
            "resample": 3, "do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE},
            "do_rescale": True, "do_normalize": True, "image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD)}
