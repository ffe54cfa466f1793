"""The page of a paired comparison: blind, whole, the same for the same input; what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter

import pytest
import torch
from PIL import Image

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.evaluation.paired_page import MOST_PHOTOS, check_names, make_page, write_page

PROMPTS = ["a dog in the snow", "a dog on a <b>beach</b></script>", "a wet dog"]
PHOTO = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(9))


def pictures(value, count=3, size=16):
    """Plain pictures of one grey each: value / 255, and the prompt's number in the second channel."""
    grey = torch.full((count, 3, size, size), value / 255)
    grey[:, 1] = torch.arange(count).reshape(-1, 1, 1) / 255
    return grey


METHODS = {"Plain": pictures(50), "With DCI": pictures(100), "Base model": pictures(150)}
NUMBERS = {50: "Plain", 100: "With DCI", 150: "Base model"}


def study_of(page: bytes):
    """What the page's script reads."""
    return json.loads(re.search(rb'<script type="application/json" id="study">(.*?)</script>', page, re.S)[1])


def open_uri(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def make(methods=METHODS, prompts=PROMPTS, references=(PHOTO,), title="My dog", seed=0, **changed):
    return make_page(methods, prompts, references, title, seed, **changed)


def test_every_pair_of_methods_is_asked_for_every_prompt_once():
    study = study_of(make())
    pixels = [open_uri(uri).getpixel((0, 0)) for uri in study["pictures"]]
    (sheet,) = study["sheets"]
    asked = Counter()
    for prompt, one, other in sheet:
        assert pixels[one][1] == pixels[other][1] == prompt
        asked[frozenset(NUMBERS[pixels[number][0]] for number in (one, other))] += 1
    assert set(asked.values()) == {3} and len(asked) == 3
    assert len({tuple(item) for item in sheet}) == 9


def test_the_key_names_each_pictures_method():
    study = study_of(make())
    names = json.loads(base64.b64decode(study["key"]))
    assert names == [NUMBERS[open_uri(uri).getpixel((0, 0))[0]] for uri in study["pictures"]]


def test_the_file_names_no_method_and_its_order_depends_on_the_seed():
    page = make()
    assert not [name for name in METHODS if name.encode() in page]
    studies = [study_of(make(seed=seed)) for seed in range(8)]
    keys = [json.loads(base64.b64decode(study["key"])) for study in studies]
    assert len({tuple(key) for key in keys}) == len(studies)
    firsts = Counter(key[pair[1]] for study, key in zip(studies, keys, strict=True) for pair in study["sheets"][0])
    assert min(firsts.values()) > 72 / 6  # 24 each, were all alike


def test_the_same_input_gives_the_same_bytes_and_other_input_another_study():
    assert make() == make()
    assert study_of(make())["study"] != study_of(make(seed=1))["study"]
    assert study_of(make())["study"] != study_of(make(title="Another"))["study"]


def test_the_page_needs_no_network_and_allows_none():
    page = make().decode()
    assert "default-src 'none'" in page and "://" not in page
    assert not re.search(r"<link|<[^>]* (src|href)=[\"'](?!#)", page)
    assert not re.search(r"{{\w+}}", page)


def test_what_users_write_cannot_leave_its_place():
    page = make(title="</title><script>alert(1)</script>{{script}}").decode()
    assert "<script>alert" not in page and page.count("</script>") == 2
    study = study_of(page.encode())
    assert study["prompts"][1] == PROMPTS[1] and study["title"].endswith("{{script}}")


@pytest.mark.parametrize(("size", "stored", "kind"), [(200, 200, "PNG"), (300, 300, "JPEG"), (1500, 1024, "JPEG")])
def test_pictures_are_stored_alike_and_bounded(size, stored, kind):
    methods = {"A": torch.rand(1, 3, 4, size), "B": torch.rand(1, 3, 4, size)}
    images = [open_uri(uri) for uri in study_of(make(methods, ["a dog"]))["pictures"]]
    assert [(image.format, image.size[0]) for image in images] == [(kind, stored)] * 2
    assert not any(image.info.keys() & {"exif", "comment", "prompt"} for image in images)


def test_small_pictures_keep_every_value():
    picture = torch.randint(0, 256, (1, 3, 8, 8)) / 255
    (uri, _) = study_of(make({"A": picture, "B": picture}, ["a dog"]))["pictures"]
    stored = torch.tensor(list(open_uri(uri).tobytes())).reshape(8, 8, 3).movedim(-1, 0)
    assert torch.equal(stored, (picture[0] * 255).round().long())


def test_a_sheet_has_so_many_pairs_and_every_pair_of_methods_about_as_often():
    study = study_of(make(pairs_per_sheet=4))
    names = json.loads(base64.b64decode(study["key"]))
    assert [len(sheet) for sheet in study["sheets"]] == [3, 3, 3]
    for sheet in study["sheets"]:
        assert len({frozenset((names[one], names[other])) for _, one, other in sheet}) == 3
    assert [len(sheet) for sheet in study_of(make(pairs_per_sheet=100))["sheets"]] == [9]


def test_the_first_photos_are_shown():
    photos = study_of(make(references=[PHOTO] * (MOST_PHOTOS + 3)))["photos"]
    assert len(photos) == MOST_PHOTOS and open_uri(photos[0]).size == (30, 20)


def test_the_page_is_written_where_it_is_asked_for(tmp_path):
    path = write_page(METHODS, PROMPTS, [PHOTO], tmp_path / "new" / "page.html", title="My dog", seed=0)
    assert path.read_bytes() == make() and [found.name for found in path.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize(("changed", "words"), [
    ({"methods": {"A": pictures(1)}}, "1 method"),
    ({"methods": {"A": pictures(1), " a ": pictures(2)}}, "'A' for two methods"),
    ({"methods": {"A": pictures(1), " ": pictures(2)}}, "empty name"),
    ({"methods": {"A": pictures(1), "B": pictures(2, count=2)}}, "2 pictures, expected 3, as A has"),
    ({"methods": {"A": pictures(1), "B": pictures(2, size=8)}}, "8 x 8 pixels, expected 16 x 16.*give the method away"),
    ({"methods": {"A": pictures(1), "B": pictures(2)[0]}}, r"got \(3, 16, 16\)"),
    ({"methods": {"A": pictures(1, 0), "B": pictures(2, 0)}, "prompts": []}, "1 or more pictures"),
    ({"methods": {"A": pictures(1), "B": pictures(2) * torch.nan}}, "NaN"),
    ({"prompts": PROMPTS[:2]}, "2 for 3 pictures"),
    ({"prompts": ["a", " ", "b"]}, "prompts: got an empty one"),
    ({"references": []}, "references: got no photo"),
    ({"title": " "}, "title"),
    ({"pairs_per_sheet": -1}, "pairs_per_sheet: got -1"),
])
def test_bad_input_is_refused_with_its_reason(changed, words):
    with pytest.raises(InputError, match=words):
        make(**changed)


def test_names_are_checked_before_there_are_pictures():
    check_names(["A", "B"])
    with pytest.raises(InputError, match="two methods"):
        check_names(["A b", "a  B"])
