"""Every row of a batch is predicted with its own noise, text and picture."""

import pytest
import torch
from tiny_unet import CONTEXT, TinyDenoiser, schedule

from comfyui_personalize.core.data.batch import Rows
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.core.training.prediction import predict


class Recorder:
    """Puts out what it is given, and keeps its rows of conditioning."""

    device = torch.device("cpu")

    def __init__(self):
        self.schedule, self.given = schedule(), []

    def __call__(self, noisy, index, rows):
        self.given += rows
        return noisy.half()


def batch(*lengths, concat=False):
    """Rows of noise, and their texts."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    count = len(lengths)
    rows = Rows(latents=normal(count, 4, 8, 8), noise=normal(count, 4, 8, 8), prompts=("",) * count,
                index=torch.randint(1000, (count,), generator=generator),
                concat=normal(count, 4, 8, 8) if concat else None)
    return rows, [Conditioning(normal(1, length, CONTEXT), normal(1, 3)) for length in lengths]


def row_alone(rows, number):
    one = slice(number, number + 1)
    return Rows(latents=rows.latents[one], noise=rows.noise[one], index=rows.index[one], prompts=("",))


@pytest.mark.parametrize("lengths", [(77, 77), (77, 154, 231)])
def test_a_row_is_what_it_is_alone(lengths):
    network, (rows, texts) = TinyDenoiser(), batch(*lengths)
    with torch.no_grad():
        together = predict(network, rows, texts)
        for number, text in enumerate(texts):
            alone = predict(network, row_alone(rows, number), [text])
            torch.testing.assert_close(together[number:number + 1], alone, rtol=1e-5, atol=1e-5)


def test_the_network_gets_z_t_and_its_answer_comes_in_float32():
    network, (rows, texts) = Recorder(), batch(5, 9)
    prediction = predict(network, rows, texts)
    expected = network.schedule.add_noise(rows.latents, rows.noise, rows.index)
    assert prediction.dtype == torch.float32 and torch.equal(prediction, expected.half().float())
    assert all(given is text for given, text in zip(network.given, texts, strict=True))


def test_each_row_takes_its_own_picture_along_and_keeps_its_text():
    network, (rows, texts) = Recorder(), batch(5, 9, concat=True)
    predict(network, rows, texts)
    for number, (given, text) in enumerate(zip(network.given, texts, strict=True)):
        assert torch.equal(given.concat, rows.concat[number:number + 1])
        assert given.context is text.context and given.pooled is text.pooled
