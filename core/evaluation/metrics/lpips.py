"""LPIPS (Zhang et al. 2018, arXiv:1801.03924): a distance of pictures that people agree with.

torchmetrics has the distance and its calibration; the network under it is torchvision's AlexNet, VGG16 or SqueezeNet
1.1, whose weights are given as a file. Nothing is downloaded.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...errors import require
from ...model_folders import path_of, reading
from .diversity import PictureDistance
from .kernel_distance import require_torchmetrics

Network = Literal["alex", "squeeze", "vgg"]
PUBLISHED: Mapping[Network, str] = {"alex": "AlexNet_Weights", "squeeze": "SqueezeNet1_1_Weights",
                                    "vgg": "VGG16_Weights"}
"""torchvision's name for each network's weights."""
TELLING: Mapping[Network, tuple[str, tuple[int, ...]]] = {
    "alex": ("features.0.weight", (64, 3, 11, 11)), "squeeze": ("features.3.squeeze.weight", (16, 64, 1, 1)),
    "vgg": ("features.28.weight", (512, 512, 3, 3))}
"""A tensor that only this network has, and its shape."""
EXPECTED = "torchvision's weights of AlexNet, VGG16 or SqueezeNet 1.1 (.pth or .safetensors)"


def check_lpips(path: str | Path) -> Path:
    """The file, as far as can be said without loading it.

    Raises:
        InputError: there is no such file, or torchmetrics is not installed.
    """
    file = path_of(path, "lpips_path")
    require(file.is_file(), "lpips_path", repr(str(path)), f"an existing file: {EXPECTED}",
            "Give the whole path, or clear it: diversity is then measured without LPIPS.")
    require_torchmetrics("lpips_path")
    return file


def load_lpips(path: str | Path, device: str | torch.device = "cpu") -> PictureDistance:
    """The distance over the network whose weights are in a file.

    Raises:
        InputError: as `check_lpips`; for a file that is none of the three networks, or holds more than tensors.
    """
    file = check_lpips(path)
    weights = _read(file)
    network = _network_of(weights)
    require(network is not None, "lpips_path", f"{file.name} with other tensors", EXPECTED,
            "Take a file that torchvision publishes.")
    assert network is not None
    make = importlib.import_module("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity
    with (torch.inference_mode(False), _offered(network, weights),
          reading("lpips_path", f"{file.name}, which lacks some of the network's tensors", EXPECTED)):
        metric = make(net_type=network, reduction="none", normalize=True)
    metric = metric.to(device).eval()

    def distance(first: Tensor, second: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            rows = [pictures.detach().clone().float().clamp(0, 1).to(device) for pictures in (first, second)]
            metric.reset()
            metric.update(*rows)
            found: Tensor = metric.compute().reshape(-1).cpu()
            return found

    return distance


def _read(file: Path) -> dict[str, Tensor]:
    with reading("lpips_path", file.name, EXPECTED):
        found: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(
            file, map_location="cpu", weights_only=True)
    return found if isinstance(found, dict) else {}


def _network_of(weights: Mapping[str, Tensor]) -> Network | None:
    """The network that these tensors belong to, by a tensor of its own."""
    fitting: list[Network] = [name for name, (key, shape) in TELLING.items()
                              if isinstance(weights.get(key), Tensor) and tuple(weights[key].shape) == shape]
    return fitting[0] if fitting else None


@contextmanager
def _offered(network: Network, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the context torchvision finds these weights in its cache, so that it downloads nothing.

    torchmetrics has no other way to name a file. The cache is a temporary folder, and the old one comes back.
    """
    models = importlib.import_module("torchvision.models")
    before, url = torch.hub.get_dir(), getattr(models, PUBLISHED[network]).DEFAULT.url
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "checkpoints" / url.rpartition("/")[2]
        place.parent.mkdir()
        torch.save(dict(weights), place)
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
