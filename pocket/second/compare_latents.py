"""Which latents are easier to generate: the closed form's or the learned ones? Two small generators on equal batches.

Both see the same pictures, captions, timesteps and noise, step by step; then each makes one-step estimates of held-out
pictures from equal noise, which are decoded and compared with the true render.

    python -m pocket.second.compare_latents --state STATE --steps 200
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from .autoencoder import Autoencoder, psnr, start_from_closed_form
from .device import Machine, find_machine
from .diffusion import add_noise, alphas_cumprod, clean_estimate
from .generator import Generator, denoising_loss, generator_batch
from .learner import Learner
from .looks import SEEDS
from .scenes import training_scene
from .stages import load_autoencoder, stack, step_noise, write_sheet
from .state import state_path
from .tokens import vocabulary

MULT: Final = (1, 1, 1)
"""A third of the cost of the real generator."""
TIMESTEPS: Final = (100, 300, 500, 700, 900)
SCENES: Final = 192


class Arm:
    """One autoencoder and the small generator on its latents."""

    def __init__(self, autoencoder: Autoencoder, machine: Machine) -> None:
        torch.manual_seed(0)
        self.autoencoder = autoencoder
        self.learner = Learner(machine.place(Generator(MULT)), peak=1e-3, warm_up=50, decay=0.99)

    def learn(self, pictures: Tensor, cover: Tensor, rows: Tensor, step: int, machine: Machine, cooled: float) -> float:
        with machine.autocast():
            with torch.no_grad():
                latents = self.autoencoder.encode(pictures).float()
            noise, generator = step_noise(tuple(latents.shape), step, 8, machine.device)
            loss = denoising_loss(self.learner.network, latents, cover, rows, noise, generator)
        self.learner.learn(loss, cooled)
        return loss.item()

    @torch.no_grad()
    def figures(self, pictures: Tensor, rows: Tensor, sheet: Path) -> dict[str, float]:
        """PSNR of decoded one-step estimates by timestep, and of the autoencoder alone."""
        self.learner.swap_average()
        code = self.autoencoder.encode(pictures).float()
        noise, _ = step_noise(tuple(code.shape), 0, 9, code.device)
        found = {"autoencoder": psnr(self.autoencoder.decode(code), pictures)}
        rendered = [pictures[:8]]
        for t in TIMESTEPS:
            abar = alphas_cumprod()[t].to(code.device).view(1, 1, 1, 1)
            noisy = add_noise(code, noise, abar)
            timesteps = torch.full((len(code),), t, device=code.device)
            guess = self.autoencoder.decode(clean_estimate(noisy, self.learner.network(noisy, timesteps, rows), abar))
            found[f"t = {t}"] = psnr(guess, pictures)
            rendered.append(guess[:8])
        write_sheet(torch.cat(rendered), sheet)
        return found


def compare(path: Path, steps: int, batch: int, machine: Machine, sheets: Path) -> dict[str, dict[str, float]]:
    """Trains both arms and returns their figures."""
    closed = machine.place(start_from_closed_form(Autoencoder()).eval().requires_grad_(False))
    arms = {"closed form": Arm(closed, machine), "learned": Arm(load_autoencoder(path, machine), machine)}
    losses: dict[str, list[float]] = {name: [] for name in arms}
    for step in range(steps):
        drawn = generator_batch(3 * 10**6 + step, batch)
        pictures, cover, rows = (machine.pictures(drawn.pictures), machine.send(drawn.cover), machine.send(drawn.rows))
        for name, arm in arms.items():
            losses[name].append(arm.learn(pictures, cover, rows, step, machine, max(0.0, 2 * step / steps - 1)))
        if step % 10 == 9:
            print(step + 1, {name: round(sum(v[-10:]) / 10, 4) for name, v in losses.items()}, flush=True)
    scenes = [scene for scene in map(training_scene, SEEDS["held_out_scenes"][5000:5000 + 2 * SCENES])
              if scene.style == "photo"][:SCENES]
    pictures = machine.pictures(stack(scenes))
    rows = torch.stack([torch.from_numpy(vocabulary().encode(scene.caption)) for scene in scenes])
    return {name: arm.figures(pictures, machine.send(rows), sheets / f"{name.replace(' ', '_')}.png")
            for name, arm in arms.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    path = state_path(given.state)
    print(json.dumps(compare(path, given.steps, given.batch, find_machine(), path.parent), indent=1))


if __name__ == "__main__":
    main()
