"""DCI's options: ranges, and omega over the window."""

import math

import pytest

from comfyui_personalize.core.dci.config import DCIConfig
from comfyui_personalize.core.errors import InputError


def test_defaults_are_the_published_settings():
    config = DCIConfig()
    assert (config.window, config.shared_guidance, config.auxiliary_noise) == (0.3, True, "independent")
    assert (config.sharpening, config.aggregation, config.layers, config.prompts) == (
        "auto", "masks", "all", "entire")
    assert not config.is_sharpened_by_resolution


@pytest.mark.parametrize(("given", "is_scaled"), [
    ({}, False), ({"window": None}, True), ({"window": None, "sharpening": "published"}, False),
    ({"sharpening": "by_resolution"}, True), ({"window": 1.0}, False),
])
def test_sharpening_follows_the_size_where_the_window_does(given, is_scaled):
    assert DCIConfig(**given).is_sharpened_by_resolution is is_scaled


@pytest.mark.parametrize("bad", [
    {"omega": 2.5}, {"omega": math.nan}, {"omega_end": -3.0}, {"window": -0.1}, {"window": 1.5}, {"window": math.nan},
    {"window_sigma": 0.0}, {"window_sigma": math.inf}, {"scales": (0,)}, {"auxiliary_noise": "none"},
    {"sharpening": "more"}, {"aggregation": "mean"}, {"layers": "first"}, {"prompts": "none"},
])
def test_values_out_of_range_are_refused_by_name(bad):
    with pytest.raises(InputError) as error:
        DCIConfig(**bad)
    assert error.value.name == next(iter(bad))


def test_omega_is_constant_without_an_end():
    config = DCIConfig(omega=0.7)
    assert all(config.omega_at(sigma, 14.6, 4.0) == 0.7 for sigma in (14.6, 8.0, 4.0))


def test_omega_goes_to_its_end_linearly_in_the_logarithm_of_the_noise_level():
    config = DCIConfig(omega=2.0, omega_end=-1.0)
    assert config.omega_at(16.0, 16.0, 4.0) == 2.0
    assert config.omega_at(8.0, 16.0, 4.0) == pytest.approx(0.5)
    assert config.omega_at(4.0, 16.0, 4.0) == pytest.approx(-1.0)


def test_omega_stays_between_its_ends_outside_the_window():
    config = DCIConfig(omega=1.0, omega_end=0.0)
    assert config.omega_at(20.0, 16.0, 4.0) == 1.0 and config.omega_at(1.0, 16.0, 4.0) == 0.0
    assert config.omega_at(5.0, 16.0, 16.0) == 1.0
