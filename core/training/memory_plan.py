"""Which way of using the memory a run takes: the fastest whose estimate fits what is free."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from ..errors import InputError
from .config import Switch
from .memory import Activations

MARGIN = 1.15
"""Activations are held to fit with so much to spare: estimates of them are meant to be that good."""
RESIDENT, RECOMPUTED, STREAMED, STREAMED_KEPT = "resident", "recomputed", "streamed", "streamed without recomputation"
TOLD = {RESIDENT: "no gradient checkpointing", RECOMPUTED: "gradient checkpointing",
        STREAMED: "gradient checkpointing, the model streamed", STREAMED_KEPT: "the model streamed"}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes that a run needs on its device, whatever the plan.

    Attributes:
        weights: of what is loaded for it, as it is stored; 0 where the device computes in the memory they lie in.
        streamed_weights: the least of them that is on the device at once when they are streamed; None = they cannot be.
        learned: what trains, its gradients, what the optimiser and the averages keep of it.
        activations: at the highest point of a step.
    """

    weights: int
    streamed_weights: int | None = None
    learned: int
    activations: Activations


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """One way of using the memory.

    Attributes:
        name: of the way.
        needed: bytes, by the estimate.
        spared: bytes that are to be free, with the margin.
        beside: of these, those beside the weights.
        free: bytes that were free.
        faster: the ways that do not fit or have failed.
        slower: the ways that are left.
    """

    name: str
    needed: int
    spared: int
    beside: int
    free: int = 0
    faster: tuple[MemoryPlan, ...] = ()
    slower: tuple[MemoryPlan, ...] = ()

    @property
    def recomputes(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return self.name in (RECOMPUTED, STREAMED)

    @property
    def streams(self) -> bool:
        """Whether the model's weights come as they are needed."""
        return self.name in (STREAMED, STREAMED_KEPT)

    @property
    def weights(self) -> int:
        """Bytes of what is loaded, of those that are needed."""
        return self.spared - self.beside

    @property
    def would_fit(self) -> tuple[MemoryPlan, ...]:
        """The slower ways that need less, and fit."""
        return tuple(way for way in self.slower if way.spared <= self.free and way.needed < self.needed)

    def instead(self, is_loading: bool) -> MemoryPlan | None:
        """The way to take where this one has run out of memory, a step or already while its models were loaded: less
        to load is what counts then. None: there is none."""
        return next((way for way in self.would_fit if not is_loading or way.weights < self.weights), None)

    def told(self, seconds: float | None = None) -> str:
        """What a report says of it.

        Args:
            seconds: of a step, where one was measured.
        """
        why = "".join(f" ({gigabytes(other.needed)} with {TOLD[other.name]})" for other in self.faster[-1:])
        pace = "" if seconds is None else f", {seconds:.2g} s a step"
        return (f"memory: {TOLD[self.name]}, {gigabytes(self.needed)} needed{why}, {gigabytes(self.free)} free{pace}")


class OutOfMemory(torch.OutOfMemoryError):
    """A run's memory was not enough; what was learned until then is kept by the caller.

    Attributes:
        doing: what the run was doing; "" for a step.
        plan: how it used the memory; None = nothing had been estimated, or that does not matter.
    """

    doing = ""
    plan: MemoryPlan | None = None


@contextmanager
def watched(doing: str = "", plan: MemoryPlan | None = None) -> Iterator[None]:
    """Within the context memory that is not enough ends with what was being done, and how; the first to know it counts.

    Raises:
        OutOfMemory: memory was not enough.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        let_go(error)
        ran_out = OutOfMemory(str(error).partition("\n")[0][:200])
        ran_out.doing, ran_out.plan = doing, plan
        raise ran_out from error


def plans(needs: Needs, switch: Switch) -> list[MemoryPlan]:
    """The ways that the user's switch leaves open, the fastest first."""
    kept, recomputed = needs.activations.kept, needs.activations.recomputed
    ways = [(RESIDENT, needs.weights, kept), (RECOMPUTED, needs.weights, recomputed)]
    if needs.streamed_weights is not None:
        ways += [(STREAMED_KEPT, needs.streamed_weights, kept), (STREAMED, needs.streamed_weights, recomputed)]
    left = {"auto": (RESIDENT, RECOMPUTED, STREAMED), "on": (RECOMPUTED, STREAMED), "off": (RESIDENT, STREAMED_KEPT)}
    return [_plan(name, weights, needs.learned, activations) for name, weights, activations in ways
            if name in left[switch]]


def choose(ways: Sequence[MemoryPlan], free: int, failed: Collection[str] = ()) -> MemoryPlan | None:
    """The fastest that fits; None where none does.

    Args:
        ways: the fastest first.
        free: bytes.
        failed: names of ways in which this run has run out of memory before.
    """
    fitting = [way for way in ways if way.spared <= free]
    if not fitting:
        return None
    way = next((way for way in fitting if way.name not in failed), fitting[-1])
    number = ways.index(way)
    return replace(way, free=free, faster=tuple(ways[:number]), slower=tuple(ways[number + 1:]))


def refusal(ways: Sequence[MemoryPlan], free: int, fits: str) -> InputError:
    """What is said where nothing fits.

    Args:
        fits: what would, as a sentence.
    """
    least = min(ways, key=lambda way: way.spared)
    return InputError("memory", f"{gigabytes(free)} free", f"{gigabytes(least.spared)} for this run "
                      f"({TOLD[least.name]}: {gigabytes(least.needed)} by the estimate, and some to spare)", fits)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was not enough, on a card or on the CPU."""
    text = str(error)
    return (isinstance(error, torch.OutOfMemoryError)
            or isinstance(error, RuntimeError) and ("out of memory" in text.lower() or "DefaultCPUAllocator" in text))


def let_go(error: BaseException) -> None:
    """Free what the frames of an error still hold, so that what was learned can be kept."""
    traceback.clear_frames(error.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def what_ran_out(error: OutOfMemory, step: int) -> str:
    """What is said where a run has run out of memory.

    Args:
        step: the last one that is kept.
    """
    plan, when = error.plan, f" while {error.doing}" if error.doing else ""
    was = "" if plan is None else f" with {TOLD[plan.name]} ({gigabytes(plan.needed)} needed by the estimate, " \
                                  f"{gigabytes(plan.free)} free at the start)"
    kept = f"What was learned in {step} steps is kept." if step else "Nothing is lost."
    way = plan.instead(bool(error.doing)) if plan is not None else None
    if way is not None:
        return f"Memory was not enough{when}{was}. {kept} Press Run: it goes on with {TOLD[way.name]}, which needs " \
               f"{gigabytes(way.needed)}."
    return (f"Memory was not enough{when}{was}. {kept} Set gradient_checkpointing to auto or on, take a smaller batch "
            "or resolution, or close what else uses the memory, and press Run.")


def gigabytes(size: float) -> str:
    """For people: "7.9 GB"; below a tenth of one in MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def _plan(name: str, weights: int, learned: int, activations: int) -> MemoryPlan:
    return MemoryPlan(name=name, needed=weights + learned + activations,
                      spared=int(weights + learned + MARGIN * activations),
                      beside=int(learned + MARGIN * activations))
