"""The procedural world tells the truth about its pictures."""

from __future__ import annotations

import numpy as np
import pytest

from comfyui_personalize.pocket.names import load_names, load_reserved
from comfyui_personalize.pocket.world import (
    SEEDS,
    assert_disjoint,
    individual_look,
    individuals,
    render,
    subject,
    subject_scenes,
    training_scene,
)
from comfyui_personalize.pocket.world_paint import CAPTION_PATTERNS, COLOURS, INDIVIDUAL_PATTERNS, pattern_marks
from comfyui_personalize.pocket.world_scenes import BACKDROPS, CONTEXTS, EXCLUDED_COLOURS, PHRASES
from comfyui_personalize.pocket.world_shapes import NOUNS, ODD_PARTS, SHAPES, odd_part


def test_a_seed_gives_the_same_scene_and_the_same_bytes():
    for seed in (0, 7, 12345):
        assert training_scene(seed) == training_scene(seed)
        first, again = render(training_scene(seed)), render(training_scene(seed))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_different_seeds_give_different_pictures():
    pictures = {render(training_scene(seed))[0].tobytes() for seed in range(20)}
    assert len(pictures) == 20


def test_a_picture_has_the_asked_size_and_type():
    for size in (64, 128):
        picture, mask = render(training_scene(3), size)
        assert picture.shape == (size, size, 3) and mask.shape == (size, size)
        assert picture.dtype == mask.dtype == np.uint8


@pytest.mark.parametrize("noun", NOUNS)
def test_the_mask_is_exact_only_object_pixels_change_between_contexts(noun):
    """The same subject and pose in two contexts: where the mask is full the pictures agree."""
    from dataclasses import replace

    scene = next(subject_scenes(0, 1, noun))
    a, mask = render(replace(scene, context="night"))
    b, other = render(replace(scene, context="night"))
    assert np.array_equal(mask, other) and np.array_equal(a, b)
    red, _ = render(replace(scene, look=replace(scene.look, colour="red", second="yellow", part_colour="lime"),
                            context="night"))
    differs = (a != red).any(-1)
    assert not differs[mask == 0].any()
    assert differs[mask == 255].any()
    assert 0.05 < (mask > 127).mean() < 0.5


def test_an_object_stays_inside_the_picture():
    for seed in range(100):
        _, mask = render(training_scene(seed))
        edge = np.concatenate([mask[0], mask[-1]])
        assert (edge > 0).sum() < 16  # tall hats and horns may touch the edge


def test_captions_describe_what_is_drawn():
    for seed in range(300):
        scene = training_scene(seed)
        words = scene.caption.split()
        assert scene.look.noun in words
        assert not scene.name or scene.name in words
        named_colours = [w for w in words if w in COLOURS and PHRASES["red carpet"] not in scene.caption]
        assert named_colours in ([], [scene.look.colour])
        told = [c for c in CONTEXTS[1:] if scene.caption.endswith(PHRASES[c])]
        assert told in ([], [scene.context])
        assert ("wearing a hat" in scene.caption) == scene.has_hat


def test_an_object_never_has_its_backgrounds_colour():
    for seed in range(300):
        scene = training_scene(seed)
        assert scene.look.colour not in EXCLUDED_COLOURS[scene.context]


def test_a_fifth_of_the_scenes_show_named_individuals():
    share = np.mean([bool(training_scene(seed).name) for seed in range(2000)])
    assert 0.17 < share < 0.23


def test_a_name_always_means_the_same_individual():
    looks: dict[str, set] = {}
    for seed in range(3000):
        scene = training_scene(seed)
        if scene.name:
            looks.setdefault(scene.name, set()).add(scene.look)
    assert len(looks) > 100 and all(len(found) == 1 for found in looks.values())
    assert set(looks) <= set(individuals()) == set(load_names())


def test_seed_ranges_are_disjoint_and_overlaps_are_refused():
    assert_disjoint(SEEDS)
    with pytest.raises(ValueError, match="overlap"):
        assert_disjoint({"a": range(0, 10), "b": range(9, 20)})


def test_a_held_out_subject_is_no_individual_of_base_training():
    known = set(individuals().values())
    assert all(subject(i) not in known for i in range(200))
    with pytest.raises(ValueError, match="seed"):
        individual_look(0)


def test_a_subject_looks_the_same_in_many_contexts():
    scenes = list(subject_scenes(3, 5, "dog"))
    assert len({s.look for s in scenes}) == 1 and len({s.context for s in scenes}) == 5


def test_names_and_reserved_words_do_not_overlap():
    names, reserved = set(load_names()), set(load_reserved())
    assert len(names) == 150 and len(reserved) >= 2000 and not names & reserved
    assert {"sks", "ohwx"} <= reserved


def test_every_pattern_part_and_context_can_be_drawn():
    for pattern in CAPTION_PATTERNS + INDIVIDUAL_PATTERNS:
        assert pattern == "plain" or pattern_marks(pattern)
    for noun in NOUNS:
        assert all(odd_part(kind, SHAPES[noun](0.5, 0.5, 0.5)) or kind == "none" for kind in ODD_PARTS)
    assert set(BACKDROPS) == set(CONTEXTS) == set(EXCLUDED_COLOURS)
    with pytest.raises(ValueError, match="pattern"):
        pattern_marks("tartan")
