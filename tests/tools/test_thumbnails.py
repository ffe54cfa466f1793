"""Thumbnails: one frame for all workflows, words that fit, from kept pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from comfyui_personalize.tools import thumbnails
from comfyui_personalize.tools.thumbnails import (
    MARGIN,
    SIZE,
    STORIES,
    TILE,
    WORKFLOWS,
    draw,
    fitting_font,
    keep_pictures,
    kept_pictures,
    write_thumbnail,
)

FORMS = sorted((WORKFLOWS / "api").glob("*.json"))


def test_every_workflow_has_a_story_of_its_own_pictures_and_photos():
    assert {path.stem.split()[0] for path in FORMS} == set(STORIES)
    for path in FORMS:
        story = STORIES[path.stem.split()[0]]
        titles = {node["_meta"]["title"] for node in json.loads(path.read_text()).values()
                  if node["class_type"] == "SaveImage"}
        assert set(story.results) <= titles, path.stem
        assert all((WORKFLOWS / "photos" / photo).is_file() for photo in story.photos)
        assert len(story.labels) in (0, len(story.results))


@pytest.mark.parametrize("number", sorted(STORIES))
def test_the_words_fit_in_one_line_of_the_frame(number):
    words = STORIES[number].words
    assert fitting_font(words, SIZE[0] - 2 * MARGIN).getlength(words) <= SIZE[0] - 2 * MARGIN and "\n" not in words


@pytest.mark.parametrize("number", ["01", "03", "10", "12", "13"])
def test_photo_and_result_stand_where_they_stand_in_every_thumbnail(number):
    story = STORIES[number]
    wide = (480, 96) if number == "12" else (96, 96)
    results = [[Image.new("RGB", wide, "blue")] * 4 for _ in story.results]
    frame = draw(story, results, [Image.new("RGB", (192, 192), "red")] * min(1, len(story.photos)))
    assert frame.size == SIZE
    if story.photos:
        assert frame.getpixel((MARGIN + TILE // 2, MARGIN + TILE // 2)) == (255, 0, 0)
        blue = np.asarray(frame.crop((SIZE[0] - MARGIN - TILE, MARGIN, SIZE[0], MARGIN + TILE))) == (0, 0, 255)
        assert blue.all(-1).any()
    assert frame.crop((0, MARGIN + TILE + 8, *SIZE)).getextrema()[0][0] < 128  # words


def test_a_thumbnail_is_drawn_from_kept_pictures_and_only_from_whole_runs(tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    monkeypatch.setattr(thumbnails, "WORKFLOWS", tmp_path)
    (tmp_path / "photos").mkdir()
    for photo in thumbnails.DOG:
        Image.new("RGB", (192, 192), "red").save(tmp_path / "photos" / photo)
    name, pictures = "03 Prompt obeyed, subject kept (DCI)", [Image.new("RGB", (96, 96), "blue")] * 2
    keep_pictures(name, {"Plain": pictures}, kept)
    assert not write_thumbnail(name, kept)
    keep_pictures(name, {"Plain": pictures, "With DCI": pictures}, kept)
    assert write_thumbnail(name, kept) and Image.open(tmp_path / f"{name}.jpg").size == SIZE
    keep_pictures(name, {"Plain": pictures[:1]}, kept)
    assert len(kept_pictures(name, "Plain", kept)) == 1 and not kept_pictures(name, "With DCI", kept)
