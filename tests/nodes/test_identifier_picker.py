"""IdentifierPicker on a loaded CLIP."""

from __future__ import annotations

import folder_paths
import pytest
import tiny_model
import torch
from comfy.sd1_clip import SD1Tokenizer
from comfy.sdxl_clip import SDXLTokenizer
from comfy.text_encoders.hunyuan_image import ByT5SmallTokenizer
from run_node import run_node

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.identifier import find_candidates, rare_words, warnings_about
from comfyui_personalize.nodes.bridge.sampling import class_images
from comfyui_personalize.nodes.bridge.text.vocabulary import vocabularies_of
from comfyui_personalize.nodes.identifier_picker import IdentifierPicker


class TokenizersOnly:
    """What `vocabularies_of` needs of a CLIP object; no weights of the large encoders are needed to read words."""

    def __init__(self, tokenizer):
        self.tokenizer, self.tokenize, self.cond_stage_model = tokenizer, tokenizer.tokenize_with_weights, None


CLIP = vocabularies_of(TokenizersOnly(SD1Tokenizer()))


@pytest.fixture(scope="module")
def clip():
    return tiny_model.tiny_models()[1]


def pick(clip, **settings):
    defaults = {"class_noun": "dog", "tokens": 1, "seed": 0, "candidates": 4, "avoid": ""}
    return run_node(IdentifierPicker, clip=clip, **{**defaults, **settings})[:2]


def picked_words(report, count=4):
    return [row.split()[1] for row in report.splitlines()[4:4 + count]]


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_identifier_is_exactly_its_rare_tokens_alone_and_in_the_caption(clip, tokens):
    identifier, _ = pick(clip, tokens=tokens, candidates=2)
    vocabulary = vocabularies_of(clip)[0]
    ids = list(vocabulary.tokenize(identifier))
    assert len(ids) == tokens and all(index in vocabulary.rare for index in ids)
    assert list(vocabulary.tokenize(f"a {identifier} dog"))[1:-1] == ids


def test_report_lists_every_candidate_with_ids_rank_and_reasons(clip):
    identifier, report = pick(clip, candidates=4)
    rows = report.splitlines()[4:8]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0].split()[1] == identifier
    scores = [float(row.split()[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all("clip_l 4" in row for row in rows)
    assert report.count("no English word") == 4


def test_same_seed_same_report_and_other_seed_other_candidates(clip):
    assert pick(clip, seed=3) == pick(clip, seed=3)
    assert pick(clip, seed=3)[1] != pick(clip, seed=4)[1]


def test_avoided_words_are_never_picked(clip):
    words = picked_words(pick(clip)[1])
    avoid = ", ".join(words[:2]) + "\n" + " ".join(words[2:])
    assert not set(picked_words(pick(clip, avoid=avoid)[1])) & set(words)


@pytest.mark.parametrize("noun", ["", "toy car", "niño", "玩具"])
def test_empty_multi_word_and_unicode_nouns_are_accepted(clip, noun):
    assert pick(clip, class_noun=noun, candidates=2)[0]


def test_a_missing_text_encoder_is_refused():
    with pytest.raises(InputError, match="clip: got no text encoder"):
        pick(None)


def test_every_rare_word_of_clip_round_trips_alone_and_in_the_caption():
    (vocabulary,) = CLIP
    pool = rare_words([vocabulary])
    assert len(pool) > 300 and "sks" in pool and "ewe" not in pool
    assert len(find_candidates([vocabulary], class_noun="dog", count=len(pool))) == len(pool)


def test_clips_own_ids_stand_for_the_words(clip):
    assert list(vocabularies_of(clip)[0].tokenize("a sks dog")) == [320, 48136, 1929]


@pytest.mark.parametrize(
    ("identifier", "complaint"),
    [
        ("dog", "is an English word"),
        ("teapot", "is an English word"),
        ("cinnamon", "is a common word"),
        ("serendipity", "is an English word"),
        ("xxy5syt00", "splits into 7 common pieces"),
        ("V*", "splits into 2 common pieces in clip_l (v | *)"),
        ("zh dog", "'dog' is an English word"),
    ],
)
def test_a_word_with_a_meaning_or_in_pieces_is_warned_about(identifier, complaint):
    (warning,) = warnings_about(identifier, "dog", CLIP)
    assert complaint in warning and "Take one that the identifier picker ranks." in warning


def test_a_learned_embedding_is_not_read_as_text():
    assert warnings_about("embedding:my_dog", "dog", CLIP) == ()


def test_a_picked_identifier_gives_no_warning_and_an_empty_noun_one():
    assert warnings_about("sks wrs", "dog", CLIP) == ()
    (warning,) = warnings_about("sks", " ", CLIP)
    assert "class noun is empty" in warning


def test_both_encoders_of_sdxl_read_the_identifier_as_the_same_tokens():
    vocabularies = vocabularies_of(TokenizersOnly(SDXLTokenizer()))
    assert sorted(vocabulary.name for vocabulary in vocabularies) == ["clip_g", "clip_l"]
    for candidate in find_candidates(vocabularies, class_noun="toy car", tokens=2, count=20):
        assert candidate.token_ids["clip_g"] == candidate.token_ids["clip_l"]


def test_an_encoder_that_reads_no_words_is_refused():
    with pytest.raises(InputError, match="clip: got a text encoder whose tokenizer holds no words"):
        pick(TokenizersOnly(SD1Tokenizer(name="byt5_small", tokenizer=ByT5SmallTokenizer)))


# In pictures


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The tiny model, and an output folder of this test's own."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tiny_model.tiny_models()


def pick_in_pictures(models, **settings):
    few = {"candidates": 2, "pictures": 3, "picture_steps": 1, "picture_size": 64, "picture_cfg": 1.0}
    return pick(models[1], model=models[0], **few | settings)


def test_with_a_model_the_report_says_how_alike_each_candidate_makes_pictures(models, tmp_path):
    identifier, report = pick_in_pictures(models)
    header, *rows = report.splitlines()[3:6]
    start = header.index("pull")
    pulls = [float(row[start:start + 6]) for row in rows]
    assert len(pulls) == 2 and all(pull < 1 for pull in pulls) and rows[0].split()[1] == identifier
    assert len([*tmp_path.glob("personalize/.class_images/*/*.safetensors")]) == 3 * (2 + 1)


def test_pictures_of_candidates_are_kept_and_sampled_once(models, monkeypatch):
    first = pick_in_pictures(models)
    monkeypatch.setattr(class_images.ClassImageSampler, "__call__", lambda *_: pytest.fail("sampled"))
    assert pick_in_pictures(models) == first


def test_without_a_model_nothing_is_drawn_and_the_report_is_as_it_was(models, monkeypatch):
    monkeypatch.setattr(class_images, "make_class_images", lambda *_: pytest.fail("drawn"))
    assert "pull" not in pick(models[1])[1]


def test_an_encoder_of_pictures_needs_a_vae(models):
    with pytest.raises(InputError, match="vae: got nothing, expected a VAE beside the Image-Text Encoder"):
        pick_in_pictures(models, image_text=object())


def test_an_encoder_looks_at_decoded_pictures(models):
    shapes = []

    class Encoder:
        def embed_images(self, pixels):
            shapes.append(tuple(pixels.shape))
            return torch.nn.functional.normalize(pixels.flatten(1), dim=1)

    pick_in_pictures(models, image_text=Encoder(), vae=models[2])
    assert shapes == [(3, 64, 64, 3)] * 3
