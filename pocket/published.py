"""What is in the committed checkpoint? The networks of the file that users load, back in training's own form."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from .config import DOWNSCALE, FILE_EPSILON, LATENT_CHANNELS
from .export import CHECKPOINT, rename_unet
from .generator import Generator, build_generator
from .klt import VAE_SCALE, Transform
from .taesd import Decoder, Encoder
from .unet import scale_output, set_output_norm

TEXT_PREFIX = "cond_stage_model.transformer."
ENCODER_PREFIX = "first_stage_model.taesd_encoder."
DECODER_PREFIX = "first_stage_model.taesd_decoder."
TABLE = "text_model.embeddings.token_embedding.weight"


def published_facts(path: Path = CHECKPOINT) -> dict[str, float]:
    """The file's own metadata: `generator_steps`, and `output_scale` where the output's norm is nearly linear."""
    with safe_open(path, "pt") as file:
        return dict(json.loads(file.metadata()["pocket"]))


def published_tensors(path: Path = CHECKPOINT) -> dict[str, torch.Tensor]:
    """Every tensor of the file in float16."""
    return load_file(path)


def below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose key begins with the prefix, in float32, under the rest of their key."""
    return {key[len(prefix):]: tensor.float() for key, tensor in tensors.items() if key.startswith(prefix)}


def published_text(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The text encoder's state dict, with CLIP's whole table, in float32."""
    return below(tensors, TEXT_PREFIX)


def load_published(path: Path = CHECKPOINT) -> Generator:
    """The generator of a checkpoint file; a file without `output_scale` comes back with the usual last norm."""
    tensors, generator = published_tensors(path), build_generator()
    text = published_text(tensors)
    text[TABLE] = text[TABLE][generator.vocabulary.ids]
    generator.text.load_state_dict({key_of(generator.text, key): tensor for key, tensor in text.items()})
    state = generator.unet.state_dict()
    names = rename_unet({key: torch.tensor(i) for i, key in enumerate(state)})
    keys = list(state)
    generator.unet.load_state_dict({keys[int(i)]: tensors[name].float() for name, i in names.items()})
    set_output_norm(generator.unet, FILE_EPSILON)
    scale_output(generator.unet, 1 / published_facts(path).get("output_scale", 1.0))
    generator.unet.eval(), generator.text.eval().requires_grad_(False)
    return generator


def load_published_transform(path: Path = CHECKPOINT) -> Transform:
    """The encoder as one matrix, read off its answers: z is affine in a block of 8 x 8 pixels.

    The mean is known within the 16 components only, which is all that `encode` needs. Fitting it anew would not do:
    the signs of components, which the generator relies on, may come out otherwise on another machine.
    """
    encoder = Encoder(LATENT_CHANNELS)
    encoder.load_state_dict(below(published_tensors(path), ENCODER_PREFIX))
    with torch.no_grad():
        pixels = torch.cat([torch.zeros(1, 192), torch.eye(192)]).view(-1, DOWNSCALE, DOWNSCALE, 3)
        answers = encoder(pixels.permute(0, 3, 1, 2)).flatten(1) / VAE_SCALE
    matrix = answers[1:] - answers[0]  # (192, C): basis * gain
    gain = matrix.norm(dim=0)
    basis = matrix / gain
    return Transform(mean=basis @ (-answers[0] / gain), basis=basis, gain=gain)


def key_of(model: torch.nn.Module, key: str) -> str:
    """transformers writes CLIP's text keys with or without `text_model.`, by version."""
    return key if key in model.state_dict() else key.removeprefix("text_model.")


def load_published_decoder(path: Path = CHECKPOINT) -> Decoder:
    """The autoencoder's decoder, in TAESD's full widths."""
    decoder = Decoder(LATENT_CHANNELS)
    decoder.load_state_dict(below(published_tensors(path), DECODER_PREFIX))
    return decoder.eval().to(memory_format=torch.channels_last)
