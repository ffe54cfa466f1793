"""The fastest way of using the memory that fits is taken; what does not fit says what would."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.core.training.memory import Activations
from comfyui_personalize.core.training.memory_plan import (
    MARGIN,
    RECOMPUTED,
    RESIDENT,
    STREAMED,
    STREAMED_KEPT,
    Needs,
    OutOfMemory,
    choose,
    gigabytes,
    is_out_of_memory,
    plans,
    refusal,
    watched,
    what_ran_out,
)

GB = 10 ** 9
NEEDS = Needs(weights=6 * GB, streamed_weights=GB, learned=GB, activations=Activations(kept=10 * GB, recomputed=2 * GB))


def ways(switch="auto", needs=NEEDS):
    return plans(needs, switch)


@pytest.mark.parametrize(("switch", "names"), [
    ("auto", [RESIDENT, RECOMPUTED, STREAMED]), ("on", [RECOMPUTED, STREAMED]), ("off", [RESIDENT, STREAMED_KEPT]),
])
def test_an_explicit_switch_wins(switch, names):
    assert [way.name for way in ways(switch)] == names
    assert [way.recomputes for way in ways(switch)] == [name in (RECOMPUTED, STREAMED) for name in names]


def test_what_cannot_be_streamed_is_not():
    needs = Needs(weights=6 * GB, learned=GB, activations=NEEDS.activations)
    assert [way.name for way in plans(needs, "auto")] == [RESIDENT, RECOMPUTED]


def test_a_way_needs_its_weights_what_learns_and_its_activations():
    assert [way.needed / GB for way in ways()] == [17, 9, 4]


@pytest.mark.parametrize(("free", "name"), [
    (19, RESIDENT), (18, RECOMPUTED), (9.4, RECOMPUTED), (9.2, STREAMED), (4.4, STREAMED),
])
def test_the_fastest_that_fits_with_its_margin_is_taken(free, name):
    assert choose(ways(), int(free * GB)).name == name and MARGIN == 1.15


def test_nothing_is_taken_where_nothing_fits():
    assert choose(ways(), 4 * GB) is None


def test_a_way_that_ran_out_of_memory_is_passed_over_as_long_as_another_fits():
    assert choose(ways(), 20 * GB, {RESIDENT}).name == RECOMPUTED
    assert choose(ways("off"), 20 * GB, {RESIDENT, STREAMED_KEPT}).name == STREAMED_KEPT


def test_the_report_says_what_is_needed_what_is_free_and_how_long_a_step_takes():
    assert choose(ways(), 20 * GB).told(0.412) == \
        "memory: no gradient checkpointing, 17.0 GB needed, 20.0 GB free, 0.41 s a step"
    assert choose(ways(), 10 * GB).told() == \
        "memory: gradient checkpointing, 9.0 GB needed (17.0 GB with no gradient checkpointing), 10.0 GB free"


def test_a_refusal_names_the_least_that_is_needed_and_what_fits():
    told = str(refusal(ways(), 2 * GB, "This would fit: a batch of 1."))
    assert told == ("memory: got 2.0 GB free, expected 4.3 GB for this run (gradient checkpointing, the model "
                    "streamed: 4.0 GB by the estimate, and some to spare). This would fit: a batch of 1.")


def ran_out(plan, doing=""):
    error = OutOfMemory()
    error.plan, error.doing = plan, doing
    return error


def test_running_out_of_memory_names_the_next_way_that_fits():
    told = what_ran_out(ran_out(choose(ways(), 20 * GB)), 40)
    assert told == ("Memory was not enough with no gradient checkpointing (17.0 GB needed by the estimate, 20.0 GB "
                    "free at the start). What was learned in 40 steps is kept. Press Run: it goes on with gradient "
                    "checkpointing, which needs 9.0 GB.")


def test_running_out_of_memory_while_loading_names_the_next_way_that_loads_less():
    told = what_ran_out(ran_out(choose(ways(), 20 * GB), "the model was loaded"), 0)
    assert told == ("Memory was not enough while the model was loaded with no gradient checkpointing (17.0 GB needed "
                    "by the estimate, 20.0 GB free at the start). Nothing is lost. Press Run: it goes on with gradient "
                    "checkpointing, the model streamed, which needs 4.0 GB.")


def test_running_out_of_memory_in_the_last_way_names_what_the_user_can_change():
    told = what_ran_out(ran_out(choose(ways(), 5 * GB)), 0)
    assert "smaller batch or resolution" in told and "Nothing is lost. " in told


def test_the_first_to_know_what_was_done_says_so():
    plan = choose(ways(), 20 * GB)
    with pytest.raises(OutOfMemory, match="^CUDA out of memory$") as found, watched(), watched("loading", plan):
        raise torch.OutOfMemoryError("CUDA out of memory\nand a page of figures")
    assert (found.value.doing, found.value.plan) == ("loading", plan)


def test_other_errors_pass_as_they_are():
    with pytest.raises(ValueError, match="out of range"), watched():
        raise ValueError("out of range")


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory(""),
    RuntimeError("[enforce fail at alloc_cpu.cpp:128] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
], ids=["card", "ours", "cpu"])
def test_memory_that_is_not_enough_is_recognised(error):
    assert is_out_of_memory(error)


def test_other_errors_are_none_of_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_our_error_is_one_that_comfyui_unloads_its_models_for():
    assert issubclass(OutOfMemory, torch.cuda.OutOfMemoryError)


def test_sizes_are_readable():
    assert [gigabytes(size) for size in (7.94e9, 1e8, 4.2e7)] == ["7.9 GB", "0.1 GB", "42 MB"]
