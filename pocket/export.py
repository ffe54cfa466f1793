"""How does the trained model become files that ComfyUI's loaders read?

    python -m pocket.export --state STATE --to pocket

Below the folder given they lie where the extension looks for them, this package's own folder by default:
`checkpoints/pocket.safetensors`, `checkpoints/pocket_upscaler.safetensors`, `image_text/pocket_clip.safetensors` and
`judge/judge.safetensors`, where the state has them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from .autoencoder import Autoencoder, start_from_published, taesd_tensors
from .generator import Generator
from .image_text import CHECKPOINT, IMAGE_TEXT_FILE, save_image_text
from .image_text_training import ImageTextEncoder, digest
from .judge import JUDGE_FILE
from .learner import load_average
from .rows import TOKEN_IDS, TOKEN_ROWS
from .state import load_state, state_path

MAX_BYTES: Final = 32 * 10**6
HERE: Final = Path(__file__).parent
UPSCALER_FILE: Final = CHECKPOINT.with_name("pocket_upscaler.safetensors")
TEXT_PREFIX: Final = "cond_stage_model.transformer.text_model."


def checkpoint_tensors(generator: Generator, autoencoder: Autoencoder) -> dict[str, Tensor]:
    """Every tensor of the checkpoint in float16 (token ids int32), under ComfyUI's keys."""
    unet = {f"model.diffusion_model.{key}": value for key, value in generator.unet.state_dict().items()}
    tensors = unet | text_tensors(generator) | taesd_tensors(autoencoder)
    halved = {key: value.detach().to("cpu", torch.float16).contiguous().clone() for key, value in tensors.items()}
    words = generator.text.words
    return halved | {TOKEN_IDS: words.ids[:words.learned].to(torch.int32).clone()}


def text_tensors(generator: Generator) -> dict[str, Tensor]:
    """The text encoder's tensors; of the token table only the trained rows."""
    state = dict(generator.text.state_dict())
    renamed = {TOKEN_ROWS: state.pop("learned_rows"),
               TEXT_PREFIX + "embeddings.position_embedding.weight": state.pop("positions")}
    return renamed | {TEXT_PREFIX + (f"encoder.{key}" if key.startswith("layers.") else key): value
                      for key, value in state.items()}


def trained_networks(state: dict[str, Any]) -> tuple[Generator, Autoencoder]:
    """The averaged networks of a state; what was not trained yet is as it starts, the autoencoder the published one."""
    torch.manual_seed(0)
    generator, autoencoder = Generator(), Autoencoder()
    if "autoencoder" not in state:
        start_from_published(autoencoder)
    for network, name in ((generator, "generator"), (autoencoder, "autoencoder"), (autoencoder.decoder, "decoder")):
        if name in state:
            load_average(network, state[name])
    return generator.eval(), autoencoder.eval()


def write_checkpoint(path: Path, generator: Generator, autoencoder: Autoencoder, facts: dict[str, object]) -> None:
    """Writes the file under another name and renames it: readers always find a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(checkpoint_tensors(generator, autoencoder), part,
              metadata={"pocket": json.dumps(facts | {"version": 2}, sort_keys=True)})
    if (size := part.stat().st_size) > MAX_BYTES:
        part.unlink()
        raise ValueError(f"checkpoint: got {size} bytes, expected at most {MAX_BYTES}")
    part.replace(path)


def write_image_text(path: Path, kept: dict[str, Any], generator: Generator) -> None:
    """Writes the image-text encoder's compact file.

    Raises:
        ValueError: it was trained with another text encoder than the generator's.
    """
    encoder = ImageTextEncoder()
    load_average(encoder, kept["encoder"])
    if encoder.trained_with != float(digest(generator.text)):
        raise ValueError("encoder: got one that was trained with another text encoder, expected the generator's own; "
                         "the generator was trained on. Give the encoder another sitting: --stage encoder")
    save_image_text(encoder.vision.state_dict(), encoder.text_projection.weight, encoder.logit_scale.squeeze(0), path)


def write_upscaler(path: Path, kept: dict[str, Any]) -> None:
    """Writes the upscaler's checkpoint; needs diffusers."""
    from .upscaler import new_upscaler, upscaler_tensors

    unet = load_average(new_upscaler(), kept["upscaler"])
    save_file(upscaler_tensors(unet), path, metadata={"upscaler_steps": str(kept["upscaler"]["step"])})


def export(state: Path, folder: Path = HERE) -> None:
    """Writes a state's networks below a folder, each in its place."""
    kept = load_state(state)
    checkpoint, encoder, judge, upscaler = (folder / file.relative_to(HERE) for file in (
        CHECKPOINT, IMAGE_TEXT_FILE, JUDGE_FILE, UPSCALER_FILE))
    for file in (checkpoint, encoder, judge, upscaler):
        file.parent.mkdir(parents=True, exist_ok=True)
    generator, autoencoder = trained_networks(kept)
    write_checkpoint(checkpoint, generator, autoencoder, {f"{name}_steps": kept[name]["step"] for name in kept})
    if "encoder" in kept:
        write_image_text(encoder, kept, generator)
    if "judge" in kept:
        tensors = kept["judge"]["average"] | kept["judge"]["buffers"]
        save_file({key: tensor.half().contiguous() for key, tensor in tensors.items()}, judge)
    if "upscaler" in kept:
        write_upscaler(upscaler, kept)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state")
    parser.add_argument("--to", type=Path, default=HERE, help="folder below which the files are written")
    given = parser.parse_args()
    export(state_path(given.state), given.to)


if __name__ == "__main__":
    main()
