"""What an objective is: a frozen config that may rewrite captions, add rows, shape noise, weigh errors, set targets,
and add loss terms.

A training step asks every objective for its rows, sends all rows through the network in one forward, and adds
up: mean of eq. 1 over the subject rows (times every pixel weight) + each objective's terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from torch import Generator, Tensor

from ..data.batch import Rows, SubjectRows
from ..data.examples import TrainingData
from ..data.noise import NoiseSource
from ..errors import InputError
from ..model.contracts import WordVectors
from ..model.schedule import NoiseSchedule

if TYPE_CHECKING:
    from ..learning.token_vectors import TokenVectorsConfig
    from ..model.image_text import ImageTextEncoder


AnyRows = TypeVar("AnyRows", bound=Rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome(Generic[AnyRows]):
    """What became of a block of rows.

    Attributes:
        rows: the block.
        prediction: what the network put out, (N, C, h, w), with its graph.
        target: what it was compared with, (N, C, h, w).
        base: the base prediction, (N, C, h, w): the frozen network's, before training; None
            where nobody asked.
        error: the distance of prediction and target at each element, times the row weights, (N, C, h, w).
    """

    rows: AnyRows
    prediction: Tensor
    target: Tensor
    base: Tensor | None
    error: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class TextView:
    """What a term on token vectors alone may look at.

    Attributes:
        vectors: the learned vectors as they are, with their graph.
        encoder: the joint space of images and texts.
    """

    vectors: WordVectors
    encoder: ImageTextEncoder


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Base of every objective; a subclass overrides only what it does.

    Attributes:
        kind: its name in metadata; no two objectives of one kind can be combined.
        needs_base: whether `target` wants the base network's prediction of the subject rows.
        needs_image_text: whether `text_term` wants an image-text encoder.
        needs_masks: whether it reads the photos' masks.
        needs_class_images: whether it draws from the pools of class images.
        separates_objects: whether it tells several objects of one photo apart.
        later_fields: fields that came after runs were kept; their default is what those runs did.
    """

    kind: ClassVar[str]
    needs_base: ClassVar[bool] = False
    needs_image_text: ClassVar[bool] = False
    needs_masks: ClassVar[bool] = False
    needs_class_images: ClassVar[bool] = False
    separates_objects: ClassVar[bool] = False
    later_fields: ClassVar[tuple[str, ...]] = ()

    # Before the run

    def prepare(self, data: TrainingData) -> TrainingData:
        """The data as this objective wants it, for example with other captions; latents may be blank yet."""
        return data

    def check(self, data: TrainingData) -> None:
        """Raise `InputError` where this objective cannot be used with the prepared data."""

    def check_learning(self, data: TrainingData, token_vectors: Sequence[TokenVectorsConfig],
                       is_text_side_trained: bool) -> None:
        """Raise `InputError` where nothing that learns is reached by this objective.

        Args:
            token_vectors: those of the run.
            is_text_side_trained: whether the text side of the image-text encoder is the text encoder that trains.
        """

    @property
    def start_words(self) -> tuple[str, ...]:
        """Words that its own learned vectors start from."""
        return ()

    @property
    def mask_dilation(self) -> int:
        """Pixels by which the masks that it reads are grown before they are brought to latent size."""
        return 0

    @property
    def background_weight_of_eq1(self) -> float:
        """What a pixel outside the mask counts in eq. 1, where one inside counts 1."""
        return 1.0

    def token_vectors(self, data: TrainingData, learning_rate: float) -> tuple[TokenVectorsConfig, ...]:
        """Words of the prepared captions that this objective learns; `learning_rate` is the run's."""
        return ()

    # Draws

    @property
    def levels_and_shift(self) -> tuple[str, float] | None:
        """Which noise levels it draws and their shift, as `LossWeighting` has both; None where it draws none."""
        return None

    @property
    def has_open_levels(self) -> bool:
        """Whether it leaves to the model's recipe which noise levels are drawn."""
        return False

    def settled(self, levels: str, shift: float) -> Objective:
        """With these noise levels, as `LossWeighting` has them, where it left them open."""
        return self

    def draw_levels(self, schedule: NoiseSchedule, count: int, generator: Generator) -> Tensor | None:
        """Noise levels (count,) in place of uniform ones."""
        return None

    def shape_noise(self, noise: Tensor, generator: Generator) -> Tensor:
        """The noise (N, C, h, w) that is trained on, from standard normal noise."""
        return noise

    def augment_concat(self, concat: Tensor, generator: Generator) -> Tensor:
        """What the network is shown (N, K, h, w) beside the noisy latents, from the clean one."""
        return concat

    def extra_rows(self, subject_rows: SubjectRows, data: TrainingData, source: NoiseSource,
                   generator: Generator) -> Rows | None:
        """Rows that this objective adds to the forward; `generator` is its own, new for every micro-step."""
        return None

    def most_rows(self, batch: int, objects: int) -> int:
        """Rows that this objective adds to a forward of `batch` subject rows, at most.

        Args:
            batch: subject rows.
            objects: most objects in one photo.
        """
        return 0 if type(self).extra_rows is Objective.extra_rows else batch

    # Loss

    def target(self, target: Tensor, base: Tensor, rows: SubjectRows) -> Tensor:
        """What the subject rows are compared with, from what they would be compared with otherwise and the base
        prediction; asked where it is needed."""
        return target

    def row_weight(self, schedule: NoiseSchedule, index: Tensor) -> Tensor | None:
        """Weight (N,) of rows at noise levels `index` (N,), of all blocks."""
        return None

    def distance(self, schedule: NoiseSchedule) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """(prediction, target, index) to the distance at each element, in place of the squared error."""
        return None

    def pixel_weight(self, subject_rows: SubjectRows) -> Tensor | None:
        """Weight of eq. 1 at each pixel of the subject rows, (B, 1, h, w)."""
        return None

    def term(self, outcome: Outcome[Any]) -> Tensor:
        """The loss term, a scalar, from the rows that this objective added."""
        raise NotImplementedError(f"{self.kind} adds rows but no loss term")

    def text_term(self, text: TextView, data: TrainingData, generator: Generator) -> Tensor | None:
        """A loss term, a scalar, on token vectors alone; per micro-step with an encoder; `generator` is its own."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """What metadata and run keys hold: later fields only where they differ from their default, so that a run from
        before them keeps its key."""
        silent = {field.name for field in fields(self)
                  if field.name in self.later_fields and getattr(self, field.name) == field.default}
        return {"kind": self.kind, **{name: value for name, value in asdict(self).items() if name not in silent}}


def most_rows(objectives: Iterable[Objective], batch: int, objects: int) -> int:
    """Rows of the largest forward: the subject's, and those that objectives add.

    Args:
        objects: most objects in one photo.
    """
    return batch + sum(objective.most_rows(batch, objects) for objective in objectives)


def levels_and_shift(objectives: Iterable[Objective]) -> tuple[str, float]:
    """Which noise levels a run draws, and their shift: uniform ones of the model's own table unless one says more."""
    given = (objective.levels_and_shift for objective in objectives)
    return next((found for found in given if found is not None), ("uniform", 0.0))


def prepared_data(objectives: Iterable[Objective], data: TrainingData) -> TrainingData:
    """The data as all objectives train on it: without class images that none of them draws, with their captions.

    Raises:
        InputError: an objective cannot be used with the data.
    """
    given = tuple(objectives)
    if not any(objective.needs_class_images for objective in given):
        data = replace(data, class_latents={}, class_prompts={}, class_captions={})
    for objective in given:
        data = objective.prepare(data)
    for objective in given:
        objective.check(data)
    return data


def combine(objectives: Iterable[Objective]) -> tuple[Objective, ...]:
    """An unordered set of objectives, in a fixed order so that the graph's order cannot change a result.

    Raises:
        InputError: when two objectives of one kind are combined.
    """
    ordered: Sequence[Objective] = sorted(objectives, key=lambda objective: objective.kind)
    for first, second in zip(ordered, ordered[1:], strict=False):
        if first.kind == second.kind:
            raise InputError("objective", f"{first.kind} twice", "each kind of objective once",
                             "Remove one of the two nodes, or set the weight you want on one of them.")
    return tuple(ordered)


def warnings_about_masks(objectives: Iterable[Objective], has_masks: bool, has_several_objects: bool) -> list[str]:
    """Masks that nothing reads, and an object term without the whole image beside it (METHODS 3, eq. 4).

    Args:
        has_masks: whether photos have masks.
        has_several_objects: whether a photo has several objects.
    """
    given, warnings = tuple(objectives), []
    separates = any(objective.separates_objects for objective in given)
    background = min((objective.background_weight_of_eq1 for objective in given), default=1.0)
    if has_masks and not any(objective.needs_masks for objective in given):
        warnings.append("the photos have masks, but no objective uses them: a masked loss would")
    if has_several_objects and not separates:
        warnings.append("a photo has several objects, but nothing tells them apart: the object term would")
    if separates and background < 1:
        warnings.append(f"the object term is on with a background weight of {background:g}; "
                        "the paper's loss (eq. 4) has 1")
    return warnings
