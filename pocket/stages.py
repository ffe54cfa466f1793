"""The stages of training: autoencoder, judge, generator, and the decoder once more on the generator's own estimates.

Each takes up its network from the state, learns for some minutes and puts it back.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .autoencoder import Autoencoder, autoencoder_loss, psnr, reconstruction_loss, start_from_published
from .batches import crops, stream
from .config import DOWNSCALE, LATENT_CHANNELS
from .device import Machine
from .diffusion import add_noise, alphas_cumprod, clean_estimate
from .drawing import render
from .generator import NOISES, Attended, Batch, Generator, Losses, generator_batch, generator_losses
from .judge import COLOUR_NAMES, HEADS, IGNORED, TWO_COLOURS, Judge, judge_batch, judge_loss
from .learner import Learner, load_average
from .looks import SEEDS
from .scenes import Scene, training_scene
from .sitting import Plan, run, take_up
from .state import freeze, load_state

log = logging.getLogger(__name__)

AUTOENCODER_RATE: Final = 5e-4
JUDGE_RATE: Final = 1e-3
GENERATOR_RATE: Final = 1.2e-3
"""At batch 64, where shapes are learned by steps rather than by pictures; grows with the square root of the batch."""
HIGHEST_RATE: Final = 1.5e-3
DECODER_RATE: Final = 2e-4
SAMPLE_STEPS: Final = 20
SAMPLE_CAPTIONS: Final = (
    "a red dog on the beach", "a blue car in the snow", "a photo of a green teapot on a wooden floor",
    "a striped orange fish under water", "a purple robot in the kitchen", "a dog",
    "a red cat next to a blue house", "a white dog in front of a red car in the desert",
    "a yellow boot on top of a blue mushroom in the jungle", "three green fish", "a pencil drawing of a cat",
    "a watercolor painting of a red house", "a large black backpack at night", "a red dog wearing a blue hat",
    "a teapot, a boot and a robot in the city", "pixel art of a yellow car",
)


def held_out_scenes(count: int, start: int = 0) -> list[Scene]:
    """Scenes that no training sees."""
    return [training_scene(seed) for seed in SEEDS["held_out_scenes"][start:start + count]]


def stack(scenes: list[Scene]) -> Tensor:
    """Pictures of scenes, (N, 3, 96, 96) uint8."""
    return torch.from_numpy(np.stack([render(scene)[0] for scene in scenes])).permute(0, 3, 1, 2)


def step_noise(shape: tuple[int, ...], step: int, stage: int, device: torch.device) -> tuple[Tensor, torch.Generator]:
    """Normal noise that is a function of stage and step, and the generator that drew it."""
    generator = torch.Generator(device).manual_seed(1_000_003 * step + stage)
    return torch.randn(shape, generator=generator, device=device), generator


def load_autoencoder(path: Path, machine: Machine) -> Autoencoder:
    """The averaged autoencoder of the state; the published one where none was trained."""
    network, state = Autoencoder(), load_state(path)
    if "autoencoder" in state:
        load_average(network, state["autoencoder"])
    else:
        start_from_published(network)
    if "decoder" in state:
        load_average(network.decoder, state["decoder"])
    return machine.place(network.eval().requires_grad_(False))  # type: ignore[return-value]


def train_autoencoder(plan: Plan, machine: Machine, max_noise: float) -> None:
    """Encoder and decoder, on from the published ones."""
    network = machine.place(start_from_published(Autoencoder()))
    learner = take_up("autoencoder", Learner(network, peak=AUTOENCODER_RATE, decay=0.998), plan.path)
    check = machine.pictures(stack(held_out_scenes(64)))

    def loss_of(pixels: Tensor, step: int) -> Tensor:
        pictures = machine.pictures(pixels)
        b, _, h, w = pictures.shape
        noise, generator = step_noise((b, LATENT_CHANNELS, h // DOWNSCALE, w // DOWNSCALE), step, 1, machine.device)
        sigma = max_noise * torch.rand(b, 1, 1, 1, generator=generator, device=machine.device)
        with machine.autocast():
            return autoencoder_loss(network, pictures, noise, sigma, has_scale_term=step % 2 == 0)

    @torch.no_grad()
    def look() -> str:
        learner.swap_average()
        code = network.encode(check)
        noise, _ = step_noise(tuple(code.shape), 0, 2, machine.device)
        values = [psnr(network.decode(code + sigma * noise), check) for sigma in (0.0, 0.15, 0.3)]
        learner.swap_average()
        return "world {:.2f} dB, with noise 0.15 {:.2f}, 0.3 {:.2f}".format(*values)

    make = functools.partial(crops, batch=plan.batch)
    run("autoencoder", learner, plan, stream(make, learner.step // plan.reuse, machine.workers, machine.is_cuda),
        loss_of, look)


def train_judge(plan: Plan, machine: Machine) -> None:
    """The judge, on renders and on what the autoencoder leaves of them."""
    torch.manual_seed(1)
    network, autoencoder = machine.place(Judge()), load_autoencoder(plan.path, machine)
    learner = take_up("judge", Learner(network, peak=JUDGE_RATE, decay=0.998), plan.path)
    check = {key: machine.send(value) for key, value in judge_batch(10**5, 256).items()}

    def loss_of(labels: dict[str, Tensor], step: int) -> Tensor:
        labels = {key: machine.send(value) for key, value in labels.items()}
        pictures = machine.pictures(labels["pictures"])
        noise, generator = step_noise(tuple(pictures.shape), step, 3, machine.device)
        with machine.autocast():
            coded = slice(step % 4, None, 4)  # every fourth picture, of both halves
            pictures[coded] = through(autoencoder, pictures[coded], 0.15, generator).float()
            gain = 1 + 0.1 * torch.randn(len(pictures), 3, 1, 1, generator=generator, device=machine.device)
            return judge_loss(network(pictures * gain + 0.03 * noise), labels)

    @torch.no_grad()
    def look() -> str:
        learner.swap_average()
        pictures, generator = machine.pictures(check["pictures"]), step_noise((1,), 0, 4, machine.device)[1]
        raw, coded = network(pictures), network(through(autoencoder, pictures, 0.0, generator).float())
        learner.swap_average()
        return f"raw {accuracy(raw, check)}, through the autoencoder {accuracy(coded, check)}"

    make = functools.partial(judge_batch, batch=plan.batch)
    run("judge", learner, plan, stream(make, learner.step // plan.reuse, machine.workers, machine.is_cuda),
        loss_of, look)


@torch.no_grad()
def through(autoencoder: Autoencoder, pictures: Tensor, max_noise: float, generator: torch.Generator) -> Tensor:
    """What the autoencoder leaves of pictures, with noise on the code of half of the given deviation on average."""
    code = autoencoder.encode(pictures)
    noise = torch.randn(code.shape, generator=generator, device=code.device)
    sigma = max_noise * torch.rand(len(code), 1, 1, 1, generator=generator, device=code.device)
    return autoencoder.decode(code + sigma * noise).clamp(0, 1)


def accuracy(answers: dict[str, Tensor], labels: dict[str, Tensor]) -> str:
    """Shares of right answers by head, where the usual answer is wrong, and retrieval of the other view, in words.

    Of the number: whole pictures; of the others: named colours, things that wear something, pictures in a style.
    """
    usual = {"colour": COLOUR_NAMES.index(TWO_COLOURS), "accessory": 0, "style": 0}
    shares = []
    for name in HEADS:
        is_right = answers[name].argmax(-1) == labels[name]
        asked = (labels[name] != IGNORED) & (labels[name] != usual.get(name, IGNORED))
        share = is_right.all(-1) if name == "count" else is_right[asked]
        shares.append(f"{name} {share.float().mean().item():.3f}")
    first, second = answers["identity"][len(answers["identity"]) // 2:].chunk(2)
    found = ((first @ second.T).argmax(-1) == torch.arange(len(first), device=first.device)).float().mean().item()
    return ", ".join([*shares, f"identity 1 in {len(first)} {found:.2f}"])


def train_generator(plan: Plan, machine: Machine) -> None:
    """Text encoder and denoiser, on latents of the encoder, which is frozen from here on."""
    freeze(plan.path, "autoencoder")
    torch.manual_seed(0)
    network, autoencoder = machine.place(Generator()), load_autoencoder(plan.path, machine)
    rate = min(HIGHEST_RATE, GENERATOR_RATE * (plan.batch / 64) ** 0.5)
    learner = take_up("generator", Learner(network, peak=rate, warm_up=300, decay=0.9995), plan.path)
    attended, encode = machine.compiled(network.attended), machine.compiled(autoencoder.encoder)
    scale = autoencoder.power.rsqrt()
    check = to_machine(generator_batch(10**5, 128, redrawn=0), machine)

    def losses_of(batch: Batch, step: int, at: Attended) -> Losses:
        batch = to_machine(batch, machine)
        with machine.autocast(), torch.no_grad():
            latents = (encode(machine.pictures(batch.pictures)) * scale).float()
        noise, generator = step_noise((NOISES * len(latents), *latents.shape[1:]), step, 5, machine.device)
        with machine.autocast():
            return generator_losses(at, latents, batch, noise, generator)

    def loss_of(batch: Batch, step: int) -> Tensor:
        return losses_of(batch, step, attended).total()

    @torch.no_grad()
    def look() -> str:
        learner.swap_average()
        held_out, attention = np.mean([[loss.item() for loss in losses_of(check, step, network.attended)]
                                       for step in range(2)], axis=0)
        with machine.autocast():
            pictures = autoencoder.decode(network.draw(list(SAMPLE_CAPTIONS), steps=SAMPLE_STEPS)).float()
        learner.swap_average()
        write_sheet(pictures, plan.path.with_name(f"samples_{learner.step:06d}.png"))
        return f"held-out loss {held_out:.4f}, of the nouns' attention {attention:.3f}"

    make = functools.partial(generator_batch, batch=plan.batch // NOISES)
    run("generator", learner, plan, stream(make, learner.step // plan.reuse, machine.workers, machine.is_cuda),
        loss_of, look)


def to_machine(batch: Batch, machine: Machine) -> Batch:
    """The batch on the device; pictures stay bytes."""
    return Batch(*map(machine.send, batch))


def train_decoder(plan: Plan, machine: Machine, max_timestep: int = 700) -> None:
    """The decoder alone, on the generator's one-step estimates of clean latents, a quarter of them plain codes.

    The judge is frozen with it: the state has no room for more.
    """
    freeze(plan.path, "judge")
    network, generator = load_autoencoder(plan.path, machine), machine.place(Generator())
    load_average(generator, load_state(plan.path)["generator"])
    network.decoder.requires_grad_(True).train()
    learner = take_up("decoder", Learner(network.decoder, peak=DECODER_RATE, decay=0.998), plan.path)
    check = machine.pictures(stack(held_out_scenes(64)))

    def loss_of(batch: Any, step: int) -> Tensor:
        batch, textures = batch
        batch = to_machine(batch, machine)
        pictures, generic = machine.pictures(batch.pictures), machine.pictures(textures)
        with machine.autocast():
            with torch.no_grad():
                code = estimates(network, generator, pictures, batch.rows, step, max_timestep)
                plain = network.encode(generic)
            loss = reconstruction_loss(network.decode(code), pictures)
            return loss + 0.25 * reconstruction_loss(network.decode(plain), generic)

    @torch.no_grad()
    def look() -> str:
        learner.swap_average()
        value = psnr(network.decode(network.encode(check)), check)
        learner.swap_average()
        return f"world {value:.2f} dB"

    make = functools.partial(decoder_batch, batch=plan.batch)
    run("decoder", learner, plan, stream(make, learner.step // plan.reuse, machine.workers, machine.is_cuda),
        loss_of, look)


def decoder_batch(number: int, batch: int) -> tuple[Batch, Tensor]:
    """World pictures with captions, from the far end of the training range, and a quarter as many crops."""
    return generator_batch(10**6 + number, batch), crops(10**6 + number, max(4, batch // 4))


def estimates(autoencoder: Autoencoder, generator: Generator, pictures: Tensor, rows: Tensor, step: int,
              max_timestep: int) -> Tensor:
    """One-step estimates of x0 from noised latents at t < max_timestep; every fourth one is the plain code."""
    code = autoencoder.encode(pictures).float()
    noise, draws = step_noise(tuple(code.shape), step, 6, code.device)
    timesteps = torch.randint(0, max_timestep, (len(code),), generator=draws, device=code.device)
    abar = alphas_cumprod().to(code.device)[timesteps].view(-1, 1, 1, 1)
    noisy = add_noise(code, noise, abar)
    guess = clean_estimate(noisy, generator(noisy, timesteps, rows).float(), abar)
    guess[::4] = code[::4]
    return guess


def write_sheet(pictures: Tensor, path: Path, columns: int = 8, zoom: int = 2) -> None:
    """A contact sheet of (N, 3, H, W) in [0, 1]."""
    size = pictures.shape[-1] * zoom
    sheet = Image.new("RGB", (columns * size, -(-len(pictures) // columns) * size))
    pixels = (pictures.clamp(0, 1).permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    for i, picture in enumerate(pixels):
        tile = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
        sheet.paste(tile, (i % columns * size, i // columns * size))
    sheet.save(path)
