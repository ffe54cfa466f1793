"""KID, diversity, LPIPS and intervals against plain loops, on random networks that the tests write to disk."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from safetensors.torch import save_file
from tiny_clip import tiny_clip
from torch.nn import functional

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.evaluation.metrics import (
    coarse_distance,
    diversity,
    embed_each,
    encoder_distance,
    estimate,
    image_similarity,
    kernel_distance,
    load_image_encoder,
    load_lpips,
    picture_similarities,
)
from comfyui_personalize.core.model.image_text import load_image_text, unit

needs_torchmetrics = pytest.mark.skipif(importlib.util.find_spec("torchmetrics") is None, reason="needs torchmetrics")
LINES = [range(2), range(2, 5), range(5, 8), range(8, 10), range(10, 11), range(11, 12), range(12, 13)]
"""SqueezeNet 1.1's layers between the seven places at which LPIPS looks."""


class Colours:
    """Pictures by their mean colour."""

    def embed_images(self, pixels):
        return unit(pixels.mean((1, 2)))


def pictures(count: int, size: int = 16, seed: int = 0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) ** 2


def squared_discrepancy(x, y) -> float:
    """The unbiased estimate of MMD^2 with the kernel (1 + <x, y>)^3, as a double loop."""
    def kernel(a, b):
        return float(1 + a @ b) ** 3

    m, n = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n)


@needs_torchmetrics
def test_kid_over_the_whole_sets_is_the_double_loop():
    generated, photos = pictures(5), pictures(5, seed=1) * 0.5
    found = kernel_distance(Colours(), generated, photos)
    wanted = squared_discrepancy(embed_each(Colours(), generated), embed_each(Colours(), photos))
    assert found.mean == pytest.approx(wanted, abs=1e-5) and found.spread < 1e-5 and found.subset_size == 5


@needs_torchmetrics
def test_kid_depends_on_its_seed_alone_and_leaves_the_global_random_state():
    before = torch.get_rng_state()
    found = [kernel_distance(Colours(), pictures(9), pictures(6, seed=1), subset_size=3, seed=seed)
             for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2] and found[0].subset_size == 3
    assert torch.equal(before, torch.get_rng_state())


@needs_torchmetrics
def test_kid_of_another_set_is_larger_than_of_the_same_kind():
    red = torch.tensor([1.0, 0.2, 0.2]).view(1, 3, 1, 1)
    same = kernel_distance(Colours(), pictures(20), pictures(20, seed=1)).mean
    assert kernel_distance(Colours(), pictures(20) * red, pictures(20, seed=1)).mean > abs(same) + 0.01


@needs_torchmetrics
@pytest.mark.parametrize("folder", ["clip", "dino"])
def test_kid_and_similarity_take_real_structures_by_path(tmp_path, folder):
    encoder = load_image_text(tiny_clip(tmp_path)) if folder == "clip" else tiny_dino(tmp_path)
    rows = pictures(4, 28)
    assert math.isfinite(kernel_distance(encoder, rows, rows).mean)
    assert 0 <= diversity(encoder_distance(encoder), rows) <= 2


def tiny_dino(folder):
    """A DINOv2 of random weights, written and read back."""
    from transformers import Dinov2Config, Dinov2Model

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    Dinov2Model(Dinov2Config(**shape)).save_pretrained(str(folder))
    return load_image_encoder(folder)


@needs_torchmetrics
@pytest.mark.parametrize("counts, size, message", [
    ((1, 4), 0, "KID: got a set of 1 pictures"), ((4, 1), 0, "KID: got a set of 1 pictures"),
    ((4, 4), 5, "subset_size: got 5, expected 2 to 4")])
def test_sets_that_are_too_small_are_refused(counts, size, message):
    with pytest.raises(InputError, match=message):
        kernel_distance(Colours(), pictures(counts[0]), pictures(counts[1]), subset_size=size)


@pytest.fixture
def no_torchmetrics(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchmetrics" else real(name))


def test_kid_says_which_package_to_install(no_torchmetrics):
    with pytest.raises(InputError, match=r"KID: got no package torchmetrics.*pip install torchmetrics"):
        kernel_distance(Colours(), pictures(4), pictures(4))


def test_lpips_says_which_package_to_install(no_torchmetrics, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"lpips_path: got no package torchmetrics.*pip install torchmetrics"):
        load_lpips(tmp_path / "weights.pth")


def test_a_tensor_of_pictures_and_a_list_of_them_are_the_same():
    rows, photos = pictures(3), pictures(2, seed=1)
    as_list = image_similarity(Colours(), list(rows.movedim(1, -1)), list(photos.movedim(1, -1)))
    assert image_similarity(Colours(), rows, photos) == as_list
    assert float(picture_similarities(Colours(), rows, photos).mean()) == pytest.approx(as_list)


def test_diversity_is_the_mean_over_pairs():
    rows = pictures(4)
    pairs = [float(coarse_distance(rows[i:i + 1], rows[j:j + 1])) for i in range(4) for j in range(i)]
    assert diversity(coarse_distance, rows) == pytest.approx(sum(pairs) / 6, abs=1e-6)


def test_equal_pictures_have_no_diversity_black_and_white_have_all_and_one_picture_has_none_to_measure():
    grey = torch.full((2, 3, 9, 9), 0.5)
    assert diversity(coarse_distance, grey) == 0
    assert diversity(coarse_distance, torch.stack([torch.zeros(3, 9, 9), torch.ones(3, 9, 9)])) == pytest.approx(1)
    assert diversity(encoder_distance(Colours()), grey) == pytest.approx(0, abs=1e-6)
    assert math.isnan(diversity(coarse_distance, grey[:1]))


@pytest.fixture(scope="module")
def squeezenet():
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(weights=None).eval()


@needs_torchmetrics
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_lpips_over_weights_from_a_file_is_the_papers_formula(tmp_path, squeezenet, monkeypatch, ending):
    path = tmp_path / f"any_name.{ending}"
    weights = squeezenet.state_dict()
    torch.save(weights, path) if ending == "pth" else save_file(weights, path)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("it downloads"))
    folder = torch.hub.get_dir()
    distance = load_lpips(path)
    first, second = pictures(3, 64), pictures(3, 64, seed=1)
    torch.testing.assert_close(distance(first, second), papers_formula(squeezenet, first, second), atol=1e-5, rtol=1e-4)
    assert torch.equal(distance(first, first), torch.zeros(3)) and torch.hub.get_dir() == folder
    torch.testing.assert_close(distance(first[:1], second[:1]), distance(first, second)[:1], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def papers_formula(network, first, second):
    """sum over places of the mean over space of w_l . (unit features - unit features)^2; arXiv:1801.03924, eq. 1."""
    from pathlib import Path

    import torchmetrics

    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    calibration = torch.load(folder / "squeeze.pth", map_location="cpu", weights_only=True)
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    rows = [(2 * pixels - 1 - shift) / scale for pixels in (first, second)]
    total = torch.zeros(len(first))
    for place, layers in enumerate(LINES):
        for number in layers:
            rows = [network.features[number](features) for features in rows]
        squares = (functional.normalize(rows[0], dim=1) - functional.normalize(rows[1], dim=1)).square()
        total += (squares * calibration[f"lin{place}.model.1.weight"]).sum(1).mean((1, 2))
    return total


@needs_torchmetrics
def test_lpips_refuses_other_networks_and_files_that_hold_more_than_tensors(tmp_path, squeezenet):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save(squeezenet, tmp_path / "pickled.pth")
    cut = {key: value for key, value in squeezenet.state_dict().items() if "features.12" not in key}
    torch.save(cut, tmp_path / "cut.pth")
    for name, message in (("other", "other.pth with other tensors"), ("pickled", "it holds more than tensors"),
                          ("cut", "lacks some"), ("absent", "expected an existing file")):
        with pytest.raises(InputError, match=f"lpips_path: got .*{message}"):
            load_lpips(tmp_path / f"{name}.pth")


def test_an_interval_holds_the_mean_and_few_values_have_none():
    values = torch.randn(30, generator=torch.Generator().manual_seed(0)).tolist()
    found = estimate([*values, math.nan])
    assert found.low < found.mean < found.high and found.count == 30 and found.has_interval
    assert found.mean == pytest.approx(sum(values) / 30) and found == estimate(values)
    assert not estimate([1.0, 2.0]).has_interval and estimate([1.0, 2.0]).mean == 1.5
    assert estimate([0.5] * 6).low == 0.5 and math.isnan(estimate([]).mean)
    assert str(estimate([1.0, 2.0])) == "1.500 (n = 2)" and "[" in str(found)
