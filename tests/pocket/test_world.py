"""The second world tells the truth about its pictures: masks, captions, seeds and names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from comfyui_personalize.pocket.drawing import coverage, render
from comfyui_personalize.pocket.judge import labels_of
from comfyui_personalize.pocket.looks import (
    SEEDS,
    SUBJECT_RANGES,
    assert_disjoint,
    individual_look,
    individuals,
    subject,
)
from comfyui_personalize.pocket.names import individual_names, name_words, reserved_words
from comfyui_personalize.pocket.places import EXCLUDED_COLOURS, PHRASES
from comfyui_personalize.pocket.scenes import COUNT_WEIGHTS, STYLES, subject_scenes, training_scene
from comfyui_personalize.pocket.tokens import vocabulary

SCENES = [training_scene(seed) for seed in range(1500)]
RELATIONS_SEEN = {relation: next(s for s in SCENES if s.relation == relation and s.style == "photo")
                  for relation in ("alike", "and", "next to", "left of", "right of", "in front of", "behind",
                                   "on top of")}


def test_a_seed_gives_the_same_scene_and_the_same_bytes():
    for scene in SCENES[:12]:
        first, again = render(scene), render(training_scene(scene.seed))
        assert training_scene(scene.seed) == scene
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("style", STYLES)
def test_every_style_gives_a_picture_of_the_asked_size(style):
    picture, labels = render(next(s for s in SCENES if s.style == style))
    assert picture.shape == (96, 96, 3) and labels.shape == (192, 192)
    assert picture.dtype == labels.dtype == np.uint8 and picture.std() > 5


@pytest.mark.parametrize("relation", RELATIONS_SEEN)
def test_the_mask_is_exact_each_things_colours_change_its_own_pixels_only(relation):
    """Where thing k covers nothing, nothing depends on how it looks; where it covers all, nothing else matters."""
    scene = RELATIONS_SEEN[relation]
    before, labels = render(scene)
    for k, thing in enumerate(scene.things):
        look = replace(thing.look, colour="lime" if thing.look.colour != "lime" else "sky")
        things = tuple(replace(t, look=look) if i == k else t for i, t in enumerate(scene.things))
        after, same_labels = render(replace(scene, things=things))
        changed, share = (before != after).any(-1), coverage(labels, k + 1)
        assert np.array_equal(labels, same_labels)
        assert not changed[share == 0].any() and changed[share == 1].any()


def test_masks_of_things_and_background_add_up_to_one():
    for scene in SCENES[:50]:
        labels = render(scene)[1]
        shares = [coverage(labels, k) for k in range(len(scene.things) + 1)]
        assert np.allclose(sum(shares), 1) and labels.max() <= len(scene.things)


def test_what_stands_in_front_hides_and_is_not_hidden():
    for scene in [s for s in SCENES if s.relation in ("in front of", "behind")][:30]:
        labels = render(scene)[1]
        front, back = (0, 1) if scene.relation == "in front of" else (1, 0)
        alone = replace(scene, things=(scene.things[front],), relation="")
        assert np.array_equal(labels == front + 1, render(alone)[1] == 1)
        hidden = replace(scene, things=(scene.things[back],), relation="")
        assert (labels == back + 1).sum() > 0.35 * (render(hidden)[1] == 1).sum()


def test_relations_are_where_captions_say():
    for scene in [s for s in SCENES if len(s.things) == 2]:
        a, b = (thing.spot for thing in scene.things)
        if scene.relation == "left of":
            assert a.x < b.x
        if scene.relation == "right of":
            assert a.x > b.x
        if scene.relation == "on top of":
            assert a.feet < b.y and abs(a.x - b.x) < b.scale
        if scene.relation == "in front of":
            assert a.feet > b.feet


def test_single_things_stand_aside_of_the_middle_and_have_many_sizes():
    singles = [s.things[0].spot for s in SCENES if len(s.things) == 1]
    x, scale = np.array([s.x for s in singles]), np.array([s.scale for s in singles])
    assert x.std() > 0.06 and 0.3 < x.min() < 0.36 and 0.64 < x.max() < 0.7
    assert scale.min() < 0.22 and scale.max() > 0.37


def test_captions_name_what_is_drawn_and_nothing_else():
    for scene in SCENES:
        text = f" {scene.caption.replace(',', ' ').replace('.', ' ')} "
        assert all(thing.look.noun in text for thing in scene.things)
        assert all(f" {thing.name} " in text for thing in scene.things if thing.name)
        told = [c for c, phrases in PHRASES.items() if any(p and f" {p} " in text for p in phrases)]
        assert told in ([], [scene.context])
        things = {"hat", "crown", "scarf", "flag"} & set(text.split())
        assert things <= {thing.accessory for thing in scene.things}
        spoken = " ".join(text.split())
        for phrase in PHRASES["red carpet"]:
            spoken = spoken.replace(phrase, "")
        colours = {c for c in ("red", "green", "blue", "purple", "white", "pink") if f" {c} " in f" {spoken} "}
        assert colours <= {c for t in scene.things for c in (t.look.colour, t.accessory_colour)}


def test_no_thing_vanishes_in_its_place():
    assert all(not thing.look.colours & set(EXCLUDED_COLOURS[scene.context])
               for scene in SCENES for thing in scene.things)


def test_one_two_and_three_things_have_their_shares():
    counts = np.bincount([len(scene.things) for scene in SCENES], minlength=4)[1:] / len(SCENES)
    assert np.abs(counts - COUNT_WEIGHTS).max() < 0.04


def test_every_caption_is_made_of_words_that_the_vocabulary_knows():
    rows = np.stack([vocabulary().encode(scene.caption) for scene in SCENES])
    assert rows.shape == (1500, 77) and (rows[:, 0] == 0).all() and (rows[:, -1] == 1).all()
    for word in ("of", "photo", "the", "a"):
        assert vocabulary().rows[word][0] < vocabulary().learned
    for mark in (".", ","):
        assert any(mark in scene.caption for scene in SCENES) and vocabulary().rows[mark][0] < vocabulary().learned


def test_seed_ranges_are_disjoint_and_overlaps_are_refused():
    assert_disjoint(SEEDS)
    with pytest.raises(ValueError, match="overlap"):
        assert_disjoint({"a": range(0, 10), "b": range(9, 20)})
    assert {"train", "held_out_scenes", "held_in_subjects", "held_out_subjects"} <= set(SEEDS)


def test_held_in_and_held_out_subjects_are_nobody_that_training_knows():
    known = set(individuals().values())
    held_in = {subject(i, split="held_in_subjects") for i in range(300)}
    held_out = {subject(i) for i in range(300)}
    assert not known & held_in and not known & held_out and not held_in & held_out
    with pytest.raises(ValueError, match="seed"):
        individual_look(0)


def test_individuals_look_like_subjects_two_colours_and_mostly_an_odd_part():
    assert all(look.is_individual for look in individuals().values()) and len(SUBJECT_RANGES) == 4
    shares = [np.mean([look.part != "none" for look in looks]) for looks in
              (individuals().values(), [subject(i) for i in range(300)])]
    assert all(0.85 < share < 0.95 for share in shares)


def test_a_subject_looks_the_same_in_many_places():
    scenes = list(subject_scenes(3, 5, "dog", "sks"))
    assert len({s.things[0].look for s in scenes}) == 1 and len({s.context for s in scenes}) == 5
    assert all(s.caption.startswith("a sks dog") for s in scenes)


def test_names_have_one_or_two_words_and_reserved_words_are_in_none():
    names = individual_names()
    assert len(names) == len(set(names)) == 500 and sum(" " in name for name in names) == 200
    assert not set(reserved_words()) & set(name_words()) and {"sks", "ohwx"} <= set(reserved_words())


def test_labels_say_how_many_where_and_in_which_colour():
    scene = RELATIONS_SEEN["left of"]
    labels = labels_of(scene)
    assert labels["count"].sum() == 2 and (~np.isnan(labels["place"])).sum() == 4
    alike = labels_of(RELATIONS_SEEN["alike"])
    assert alike["count"].max() >= 2 and np.isnan(alike["place"]).all()
