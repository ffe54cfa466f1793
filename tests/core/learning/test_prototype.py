"""A prototype's vectors make '{V} {noun}' read like the photo, its object and its class."""

from __future__ import annotations

import pytest
import torch
from tiny_image_text import TinyImageText

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.prototype import Prototype, PrototypeConfig, fit_prototype, prototype_target

PHOTO = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(3))
OBJECT = PHOTO * (torch.arange(8) > 3)[:, None, None]


def fitted(start=None, steps=100, **settings) -> tuple[Prototype, torch.Tensor]:
    encoder = TinyImageText()
    target = prototype_target(encoder, "dog", [PHOTO], [OBJECT])
    start = encoder.token_vectors("dog").repeat(4, 1) if start is None else start
    return fit_prototype(encoder, start, "dog", target, PrototypeConfig(steps=steps, **settings)), target


def test_the_target_is_the_unit_mean_of_image_object_and_class():
    encoder = TinyImageText()
    parts = [encoder.embed_images(PHOTO[None])[0], encoder.embed_images(OBJECT[None])[0],
             encoder.embed_texts(["dog"])[0]]
    mean = sum(parts) / 3
    assert torch.allclose(prototype_target(encoder, "dog", [PHOTO], [OBJECT]), mean / mean.norm(), atol=1e-6)
    without = (parts[0] + parts[2]) / 2
    assert torch.allclose(prototype_target(encoder, "dog", [PHOTO], []), without / without.norm(), atol=1e-6)


def test_fitting_is_adam_on_one_minus_the_cosine():
    """Against a loop of its own: c_p in '{V} {noun}', loss 1 - T(c_p) . target / (|T(c_p)| |target|)."""
    encoder = TinyImageText()
    result, target = fitted(steps=7, learning_rate=0.02)
    vectors = encoder.token_vectors("dog").repeat(4, 1).requires_grad_(True)
    first, second = torch.zeros_like(vectors), torch.zeros_like(vectors)
    for step in range(1, 8):
        text = encoder.embed_tokens([[*vectors, *encoder.tokenize("dog")]])[0]
        loss = 1 - (text * target).sum() / (text.norm() * target.norm())
        (gradient,) = torch.autograd.grad(loss, vectors)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        change = 0.02 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        vectors = (vectors - change).detach().requires_grad_(True)
    assert torch.allclose(result.vectors, vectors, atol=1e-5)


def test_the_cosine_rises_and_the_report_is_of_the_vectors():
    result, target = fitted()
    encoder = TinyImageText()
    measured = encoder.embed_tokens([[*result.vectors, *encoder.tokenize("dog")]])[0] @ target
    assert result.after > result.before + 0.05 and result.after == pytest.approx(float(measured), abs=1e-6)


def test_vectors_are_free_of_graphs_and_the_encoder_is_left_alone():
    encoder = TinyImageText()
    before = encoder.table.clone()
    result = fit_prototype(encoder, encoder.token_vectors("dog"), "dog", encoder.embed_texts(["cat"])[0],
                           PrototypeConfig(steps=3))
    assert not result.vectors.requires_grad and torch.equal(encoder.table, before) and encoder.table.grad is None


def test_equal_input_gives_equal_bits_in_inference_mode_too():
    encoder, settings = TinyImageText(), PrototypeConfig(steps=5)
    start, target = encoder.token_vectors("dog"), encoder.embed_texts(["cat"])[0]
    outside = fit_prototype(encoder, start, "dog", target, settings)
    with torch.inference_mode():
        inside = fit_prototype(encoder, start.clone(), "dog", target.clone(), settings)
    assert torch.equal(inside.vectors, outside.vectors)


@pytest.mark.parametrize(("changes", "message"), [({"steps": 0}, "fit_steps: got 0"),
                                                  ({"learning_rate": 0}, "fit_rate: got 0")])
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        PrototypeConfig(**changes)
