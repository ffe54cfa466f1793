"""Rows of text conditioning."""

import torch
from torch.nn import functional

from comfyui_personalize.core.model.contracts import Conditioning, concat_rows


def row(length, seed, pooled=True):
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(1, length, 8, generator=generator)
    return Conditioning(context, torch.randn(1, 4, generator=generator) if pooled else None)


def test_rows_of_one_length_are_stacked_as_they_are():
    first, second = row(3, 0), row(3, 1)
    both = concat_rows([first, second])
    assert torch.equal(both.context, torch.cat([first.context, second.context])) and both.pooled.shape == (2, 4)


def test_a_repeated_context_gives_the_same_attention():
    short, long = row(2, 0), row(3, 1)
    both = concat_rows([short, long])
    assert both.context.shape == (2, 6, 8)
    query = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    together = functional.scaled_dot_product_attention(query, both.context, both.context)
    for number, alone in enumerate((short, long)):
        one = slice(number, number + 1)
        attended = functional.scaled_dot_product_attention(query[one], alone.context, alone.context)
        torch.testing.assert_close(together[one], attended)


def test_pooled_outputs_are_dropped_unless_every_row_has_one():
    assert concat_rows([row(3, 0), row(3, 1, pooled=False)]).pooled is None


def test_a_copy_has_no_graph_and_no_shared_memory():
    source = Conditioning(torch.ones(1, 2, 2, requires_grad=True) * 2)
    copy = source.copy_to(torch.device("cpu"))
    assert not copy.context.requires_grad and copy.context.data_ptr() != source.context.data_ptr()
    assert not source.detach().context.requires_grad
