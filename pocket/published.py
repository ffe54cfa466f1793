"""Training goes on from the committed files, where the state file is lost: `python -m pocket.published STATE`.

The files hold averages, in float16, and nothing of an optimiser. So a network starts on its average, its moments are
learned again, and its rate warms up once more. The decoder is the autoencoder's, last stage and all; the upscaler's
file stays as it is, for it has nothing to learn from the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from .autoencoder import Autoencoder, start_from_published
from .export import TEXT_PREFIX
from .generator import Generator
from .image_text import CHECKPOINT, IMAGE_TEXT_FILE
from .image_text_training import ImageTextEncoder, digest
from .judge import load_judge
from .rows import TOKEN_ROWS
from .state import save_state, state_path

UNET_PREFIX: Final = "model.diffusion_model."


def published_generator() -> Generator:
    """The checkpoint's denoiser and text encoder as training's network."""
    tensors, generator = load_file(CHECKPOINT), Generator()
    text = {key.removeprefix(TEXT_PREFIX).removeprefix("encoder."): tensor for key, tensor in tensors.items()
            if key.startswith(TEXT_PREFIX)}
    text["positions"] = text.pop("embeddings.position_embedding.weight")
    text["learned_rows"] = tensors[TOKEN_ROWS]
    generator.text.load_state_dict({key: tensor.float() for key, tensor in text.items()})
    generator.unet.load_state_dict({key.removeprefix(UNET_PREFIX): tensor.float() for key, tensor in tensors.items()
                                    if key.startswith(UNET_PREFIX)})
    return generator


def published_encoder(generator: Generator) -> ImageTextEncoder:
    """The image-text encoder's file as training's network, of the text encoder given."""
    tensors, encoder = load_file(IMAGE_TEXT_FILE), ImageTextEncoder()
    tensors["logit_scale"] = tensors["logit_scale"].view(1)
    names = dict(encoder.named_parameters())
    encoder.load_state_dict({name: tensors[name.removeprefix("vision.")].float() for name in names}, strict=False)
    encoder.text_digest.copy_(digest(generator.text))
    return encoder


def entry(network: nn.Module, step: int) -> dict[str, Any]:
    """What `Learner.state` would hold of a network whose optimiser is forgotten."""
    halved: dict[str, Tensor] = {name: parameter.detach().half().contiguous()
                                 for name, parameter in network.named_parameters()}
    return {"weights": halved, "average": dict(halved), "buffers": dict(network.named_buffers()), "moments": {},
            "step": step, "warmed_from": step}


def start_state(path: Path) -> None:
    """Writes a state file with the committed networks.

    Raises:
        SystemExit: there is a state already; it may hold more than the files do.
    """
    if path.exists():
        raise SystemExit(f"state: got {path}, which is there already, expected a new file's name")
    with safe_open(CHECKPOINT, "pt") as file:
        facts: dict[str, int] = json.loads(file.metadata()["pocket"])
    generator = published_generator()
    networks = {"autoencoder": start_from_published(Autoencoder()), "judge": load_judge(), "generator": generator,
                "encoder": published_encoder(generator)}
    entries = {name: entry(network, facts[f"{name}_steps"]) for name, network in networks.items()}
    entries["autoencoder"] = {key: entries["autoencoder"][key] for key in ("average", "buffers", "step")}  # frozen
    save_state(path, **entries)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("state", nargs="?", help="the file to write; default: $POCKET_STATE")
    start_state(state_path(parser.parse_args().state))


if __name__ == "__main__":
    main()
