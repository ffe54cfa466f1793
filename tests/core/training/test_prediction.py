"""Every row of a batch is predicted as if it were alone, whatever the lengths of the texts beside it."""

import pytest
import torch
from tiny_unet import CONTEXT, TinyDenoiser, schedule
from torch import nn

from comfyui_personalize.core.data.batch import Rows
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.core.training.prediction import forwards_of, predict


class JointDenoiser:
    """Every pixel and every token of the text attend to all of them, in one layer; counts rows and tokens."""

    device = torch.device("cpu")
    may_repeat_text = False

    def __init__(self):
        self.schedule, self.calls = schedule(), []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.module = nn.ModuleDict({"into": nn.Linear(4, CONTEXT), "out": nn.Linear(CONTEXT, 4),
                                         "attention": nn.MultiheadAttention(CONTEXT, 2, batch_first=True)})

    def __call__(self, noisy, index, conditioning):
        self.calls.append(tuple(conditioning.context.shape[:2]))
        pixels = noisy.flatten(2).movedim(1, 2)
        if conditioning.concat is not None:
            pixels = pixels + conditioning.concat.flatten(2).movedim(1, 2)
        tokens = torch.cat([self.module["into"](pixels), conditioning.context], dim=1)
        attended, _ = self.module["attention"](tokens, tokens, tokens)
        output = self.module["out"](attended[:, :pixels.shape[1]]) * conditioning.pooled.mean(1)[:, None, None]
        return output.movedim(1, 2).unflatten(2, noisy.shape[2:])


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
    return Rows(latents=rows.latents[one], noise=rows.noise[one], index=rows.index[one], prompts=("",),
                concat=None if rows.concat is None else rows.concat[one])


@pytest.mark.parametrize(("denoiser", "lengths"), [
    (TinyDenoiser, (77, 77)), (TinyDenoiser, (77, 154, 231)), (JointDenoiser, (7, 7, 7)),
    (JointDenoiser, (12, 154, 267)), (JointDenoiser, (256, 313, 256, 256, 313)),
])
def test_a_row_is_what_it_is_alone(denoiser, lengths):
    network, (rows, texts) = denoiser(), batch(*lengths, concat=denoiser is JointDenoiser)
    with torch.no_grad():
        together = predict(network, rows, texts)
        for number, text in enumerate(texts):
            alone = predict(network, row_alone(rows, number), [text])
            torch.testing.assert_close(together[number:number + 1], alone, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_sum_of_the_rows_losses():
    lengths = (5, 9, 5, 2)

    def gradients(losses_of):
        network, (rows, texts) = JointDenoiser(), batch(*lengths)
        torch.stack(losses_of(network, rows, texts)).sum().backward()
        return [parameter.grad for parameter in network.module.parameters()]

    def at_once(network, rows, texts):
        return list((predict(network, rows, texts) - rows.noise).square().mean((1, 2, 3)))

    def one_by_one(network, rows, texts):
        return [(predict(network, row_alone(rows, number), [text]) - rows.noise[number]).square().mean()
                for number, text in enumerate(texts)]

    for ours, theirs in zip(gradients(at_once), gradients(one_by_one), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_texts_of_one_length_share_a_forward():
    network = JointDenoiser()
    predict(network, *batch(7, 7, 7))
    assert network.calls == [(3, 7)]


def test_a_joint_network_never_reads_a_text_longer_than_its_own():
    network = JointDenoiser()
    predict(network, *batch(256, 313, 256))
    assert network.calls == [(2, 256), (1, 313)]


def test_cross_attention_alone_takes_all_rows_in_one_forward():
    network = TinyDenoiser()
    predict(network, *batch(2, 3, 4))
    assert network.rows == [3]


@pytest.mark.parametrize(("lengths", "expected"), [
    ((5,), [[0]]), ((5, 5), [[0, 1]]), ((5, 3, 5, 2, 3), [[0, 2], [1, 4], [3]]),
])
def test_forwards_are_by_length_in_order_of_their_first_rows(lengths, expected):
    assert forwards_of(lengths, may_repeat_text=False) == expected
    assert forwards_of(lengths, may_repeat_text=True) == [list(range(len(lengths)))]
