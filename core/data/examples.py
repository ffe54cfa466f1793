"""What a run trains on: photos as latents in one or several views, masks, captions, class images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Generator, Tensor

from ..errors import require

SIMILAR_AREA = 2.0
"""Class images may have at most so many times the latent pixels of a photo, or as many times fewer."""


@dataclass(frozen=True, kw_only=True)
class ObjectName:
    """What is said of one of several objects in a photo.

    Attributes:
        caption: 'a {V} {noun}', c_m,i of eq. 5 (Lu, Xie, Guo 2024).
    """

    identifier: str
    class_noun: str
    caption: str


class Masks(NamedTuple):
    """The masks of one view at latent size, in 0..1.

    Attributes:
        whole: (1, h, w), 1 = subject (any object).
        objects: (r, h, w), one for each of several objects, or None.
    """

    whole: Tensor
    objects: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """What an edit or an inpainting model is shown beside the noise of one photo.

    Attributes:
        latents: (C, h, w) each, as the VAE gives them; sizes may differ.
        concat: (C, h, w), likewise, for a network that reads a picture of the photo's own size in more channels.
        mask: (1, H, W) in 0..1 in pixels, 1 = what an inpainting model is to paint.
        pictures: (H, W, 3) each, for a text encoder that looks at pictures; empty for others.
        key: tells pictures from other pictures.
    """

    latents: tuple[Tensor, ...] = ()
    concat: Tensor | None = None
    mask: Tensor | None = None
    pictures: tuple[Tensor, ...] = ()
    key: str = ""

    def conditions(self) -> dict[str, Any]:
        """What goes with a row, under ComfyUI's own names."""
        found: dict[str, Any] = {"reference_latents": [latents[None] for latents in self.latents]}
        found |= {"concat_latent_image": None if self.concat is None else self.concat[None],
                  "concat_mask": None if self.mask is None else self.mask[None]}
        return {name: value for name, value in found.items() if value is not None and value != []}


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One crop of a photo, mirrored or not.

    Attributes:
        latents: (C, h, w).
        mask: (1, h, w) in 0..1, 1 = subject (any object), or None.
        object_masks: (r, h, w), one for each of several objects, or None.
        concat: (K, h, w), or None.
        grown: the masks grown by so many pixels before they were brought to latent size, where objectives ask for it.
        references: for an edit or inpainting model, or None.
    """

    latents: Tensor
    mask: Tensor | None = None
    object_masks: Tensor | None = None
    concat: Tensor | None = None
    grown: Mapping[int, Masks] = field(default_factory=dict)
    references: References | None = None

    @property
    def masks(self) -> Mapping[int, Masks]:
        """Masks by the pixels that they were grown by; empty without a mask."""
        return {} if self.mask is None else {0: Masks(self.mask, self.object_masks), **self.grown}


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One photo, ready to train on. Its own tensors are its first view.

    Attributes:
        latents: (C, h, w), in the model's own latent space and scale.
        caption: the photo's prompt, c.
        object_caption: 'a {V} {noun}', c_m of the object-specific loss.
        class_noun: chooses the pool of class images.
        identifier: V, the word for the subject; empty where nobody asks for it.
        photo: number of the photo that it was made from; None = its own number.
        mask: (1, h, w) in 0..1, 1 = subject, or None.
        concat: (K, h, w), what the network reads beside the noisy latents, or None.
        objects: the names of several objects in this photo, which the caption names all; empty for one subject.
        object_masks: (r, h, w), a mask for each of them.
        grown: as in `View`.
        more_views: other crops of the same shape, and mirrored ones; views are taken in turn.
        repeats: how often an epoch shows the photo.
        caption_dropout: how often the caption is replaced by an empty one, 0..1.
        has_own_caption: whether the caption was written for this photo, and not made of a template for all.
        references: for an edit or inpainting model, or None.
        noun_caption: the caption with class nouns in place of identifiers; empty where nobody asks for it.
    """

    latents: Tensor
    caption: str
    object_caption: str
    class_noun: str
    identifier: str = ""
    photo: int | None = None
    mask: Tensor | None = None
    concat: Tensor | None = None
    objects: tuple[ObjectName, ...] = ()
    object_masks: Tensor | None = None
    grown: Mapping[int, Masks] = field(default_factory=dict)
    more_views: tuple[View, ...] = ()
    repeats: int = 1
    caption_dropout: float = 0.0
    has_own_caption: bool = False
    references: References | None = None
    noun_caption: str = ""

    @property
    def views(self) -> tuple[View, ...]:
        """All views, the first one first."""
        first = View(latents=self.latents, mask=self.mask, object_masks=self.object_masks, concat=self.concat,
                     grown=self.grown, references=self.references)
        return (first, *self.more_views)

    @property
    def nouns(self) -> tuple[str, ...]:
        """The class nouns of what is in the photo; its visits take them in turn for class images."""
        return tuple(named.class_noun for named in self.objects) or (self.class_noun,)

    @property
    def subjects(self) -> tuple[tuple[str, str], ...]:
        """Identifier and class noun of everything that is personalized in the photo."""
        return (tuple((named.identifier, named.class_noun) for named in self.objects)
                or ((self.identifier, self.class_noun),))

    def with_latents(self, latents: Sequence[Tensor]) -> Example:
        """The same photo with these latents (C, h, w), one for each view.

        Raises:
            InputError: they are not of the shape that the masks were made for.
        """
        shape, got = tuple(self.latents.shape), {tuple(view.shape) for view in latents}
        require(got == {shape}, "vae", f"latents of {', '.join(map(str, got))}", f"latents of {shape} for this photo",
                "Connect the VAE that belongs to the checkpoint.")
        first, *others = latents
        return replace(self, latents=first, more_views=tuple(replace(view, latents=own) for view, own
                                                             in zip(self.more_views, others, strict=True)))

    def with_references(self, references: Sequence[References]) -> Example:
        """The same photo with what an edit model is shown beside each view."""
        first, *others = references
        return replace(self, references=first, more_views=tuple(replace(view, references=own) for view, own
                                                                in zip(self.more_views, others, strict=True)))

    def prompts(self) -> tuple[str, ...]:
        """Every text of this photo."""
        dropped = ("",) if self.caption_dropout else ()
        noun_caption = (self.noun_caption,) if self.noun_caption else ()
        return (self.caption, self.object_caption, *(named.caption for named in self.objects), *dropped, *noun_caption)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """All examples, and one pool of class images (n, C, h, w) with its prompt per class noun.

    Attributes:
        class_captions: the captions of a pool's images, one for each, where they have their own.
        base_prompts: what the network without anything learned reads in place of a caption whose words only this run
            knows.
        other_prompts: texts of objectives that belong to no photo and to no class.
    """

    examples: tuple[Example, ...]
    class_latents: Mapping[str, Tensor] = field(default_factory=dict)
    class_prompts: Mapping[str, str] = field(default_factory=dict)
    class_captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    base_prompts: Mapping[str, str] = field(default_factory=dict)
    other_prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.examples), "images", "no photo", "1 or more photos",
                "Give one or more photos of the subject.")
        for example in self.examples:
            _check_views(example, self.examples[0].latents.shape[0])
        for noun, latents in self.class_latents.items():
            self._check_pool(noun, latents)

    def _check_pool(self, noun: str, latents: Tensor) -> None:
        channels, *sides = self.examples[0].latents.shape
        ratio = latents[0, 0].numel() / (sides[0] * sides[1])
        require(latents.shape[1] == channels and 1 / SIMILAR_AREA <= ratio <= SIMILAR_AREA, "class images",
                f"latents of {tuple(latents.shape[1:])} for {noun!r}, photos have {(channels, *sides)}",
                "class images of the training resolution", "Generate them at the trainer's resolution.")
        require(noun in self.class_prompts, "class images", f"no prompt for {noun!r}",
                "the prompt of each pool", "Generate the class images again.")
        captions = self.class_captions.get(noun, ())
        require(len(captions) in (0, len(latents)), "class images",
                f"{len(captions)} captions for {len(latents)} images of {noun!r}", "one for each image, or none",
                "Give each image a caption, or none at all.")

    def with_latents(self, latents: Sequence[Sequence[Tensor]]) -> TrainingData:
        """The same data about these latents (C, h, w) of every view of every photo."""
        return replace(self, examples=tuple(example.with_latents(views) for example, views
                                            in zip(self.examples, latents, strict=True)))

    def with_references(self, references: Sequence[Sequence[References]]) -> TrainingData:
        """The same data with the references of every view of every photo; none for a photo that has none."""
        return replace(self, examples=tuple(example.with_references(views) if views else example for example, views
                                            in zip(self.examples, references, strict=True)))

    def prompts_with_references(self) -> tuple[tuple[str, References], ...]:
        """Every text that can stand beside references that a text encoder looks at, with them."""
        return tuple((prompt, example.references) for example in self.examples
                     if example.references is not None and example.references.pictures
                     for prompt in dict.fromkeys((*example.prompts(), *self.class_prompts.values(),
                                                  *self.other_prompts)))

    @property
    def nouns(self) -> tuple[str, ...]:
        """Every class noun once, in order of the alphabet."""
        return tuple(sorted({noun for example in self.examples for noun in example.nouns}))

    def class_caption(self, noun: str, image: int) -> str:
        """The prompt of one image of a noun's pool."""
        return self.class_captions[noun][image] if self.class_captions.get(noun) else self.class_prompts[noun]

    def prompts(self) -> tuple[str, ...]:
        """Every text the run can encode, each once, always in the same order."""
        subject = (text for example in self.examples for text in example.prompts())
        captions = (text for found in self.class_captions.values() for text in found)
        return tuple(dict.fromkeys([*subject, *self.class_prompts.values(), *captions, *self.other_prompts]))


def generator_for(seed: int, stream: str, counter: int) -> Generator:
    """A CPU generator for draw number `counter` of a named stream.

    Draws depend on (seed, stream, counter) alone, so a resumed run needs no generator state, and looking at one stream
    never moves another.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{counter}".encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def _check_views(example: Example, channels: int) -> None:
    """Raise `InputError` unless all views of a photo are finite, of one shape, and of the other photos' channels."""
    shape = tuple(example.latents.shape)
    require(shape[0] == channels, "images", f"latents of {shape[0]} channels beside {channels}",
            "one VAE for all photos", "Encode all photos with the model's own VAE.")
    require(example.repeats >= 1, "repeats", example.repeats, "1 or more", "Use 1.")
    for view in example.views:
        got = tuple(view.latents.shape)
        require(got == shape, "images", f"views of {got} and {shape} of one photo", "one size for all views of a photo",
                "Encode all views at one size.")
        require(bool(view.latents.isfinite().all()), "images", "latents with NaN or infinite values",
                "finite latents", "Run the VAE in fp32 or bf16.")
        masks = view.object_masks
        require(not example.objects or masks is not None and len(masks) == len(example.objects), "masks",
                f"{0 if masks is None else len(masks)} masks for {len(example.objects)} objects",
                "a mask for every object", "Give each object its own mask.")
