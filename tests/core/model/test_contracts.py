"""Rows of conditioning."""

import torch
from torch.nn import functional

from comfyui_personalize.core.model.contracts import Conditioning, concat_rows, map_tensors


def row(length, seed, pooled=True, concat=False):
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(1, length, 8, generator=generator)
    return Conditioning(context, torch.randn(1, 4, generator=generator) if pooled else None,
                        torch.randn(1, 3, 2, 2, generator=generator) if concat else None)


def test_rows_of_one_length_are_stacked_as_they_are():
    first, second = row(3, 0, concat=True), row(3, 1, concat=True)
    context, pooled, concat = concat_rows([first, second])
    assert torch.equal(context, torch.cat([first.context, second.context])) and pooled.shape == (2, 4)
    assert torch.equal(concat, torch.cat([first.concat, second.concat]))


def test_a_repeated_context_gives_the_same_attention():
    short, long = row(2, 0), row(3, 1)
    context = concat_rows([short, long])[0]
    assert context.shape == (2, 6, 8)
    query = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    together = functional.scaled_dot_product_attention(query, context, context)
    for number, alone in enumerate((short, long)):
        one = slice(number, number + 1)
        attended = functional.scaled_dot_product_attention(query[one], alone.context, alone.context)
        torch.testing.assert_close(together[one], attended)


def test_pooled_outputs_and_pictures_are_dropped_unless_every_row_has_one():
    assert concat_rows([row(3, 0, concat=True), row(3, 1, pooled=False)])[1:] == (None, None)


def test_a_copy_has_no_graph_and_no_shared_memory_whatever_it_holds():
    def made():
        return torch.ones(1, 2, 2, requires_grad=True) * 2

    source = Conditioning(made(), made(), made(), extra={"mask": made(), "references": [made()], "guidance": 3.5})
    copy = source.copy_to(torch.device("cpu"))
    before, after = ([found.context, found.pooled, found.concat, found.extra["mask"], *found.extra["references"]]
                     for found in (source, copy))
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new) and not new.requires_grad and new.data_ptr() != old.data_ptr()
    assert copy.extra["guidance"] == 3.5
    assert not source.detach().context.requires_grad


def test_tensors_are_changed_wherever_they_are_and_nothing_else_is():
    value = {"a": torch.tensor(1), "b": [torch.tensor(2), "text"], "c": (None, {"d": torch.tensor(3)})}
    assert map_tensors(lambda tensor: 2 * tensor, value) == {"a": 2, "b": [4, "text"], "c": (None, {"d": 6})}
