"""IdentifierPicker on a loaded CLIP."""

from __future__ import annotations

import pytest
import tiny_model
from comfy.sdxl_clip import SDXLTokenizer
from comfy.text_encoders.flux import FluxTokenizer
from run_node import run_node

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.identifier import find_candidates, rare_words, warnings_about
from comfyui_personalize.nodes.bridge.vocabulary import stock_clip_vocabulary, vocabularies_of
from comfyui_personalize.nodes.identifier_picker import IdentifierPicker


@pytest.fixture(scope="module")
def clip():
    return tiny_model.tiny_models()[1]


def pick(clip, **settings):
    defaults = {"class_noun": "dog", "tokens": 1, "seed": 0, "candidates": 4, "avoid": ""}
    return run_node(IdentifierPicker, clip=clip, **{**defaults, **settings})


def picked_words(report, count=4):
    return [row.split()[1] for row in report.splitlines()[2:2 + count]]


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_identifier_is_exactly_its_rare_tokens_alone_and_in_the_caption(clip, tokens):
    identifier, _ = pick(clip, tokens=tokens, candidates=2)
    vocabulary = vocabularies_of(clip)[0]
    ids = list(vocabulary.tokenize(identifier))
    assert len(ids) == tokens and all(index in vocabulary.rare for index in ids)
    assert list(vocabulary.tokenize(f"a {identifier} dog"))[1:-1] == ids


def test_report_lists_every_candidate_with_ids_rank_and_reasons(clip):
    identifier, report = pick(clip, candidates=4)
    rows = report.splitlines()[2:6]
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
    vocabulary = stock_clip_vocabulary()
    pool = rare_words([vocabulary])
    assert len(pool) > 300 and "sks" in pool and "ewe" not in pool
    assert len(find_candidates([vocabulary], class_noun="dog", count=len(pool))) == len(pool)


def test_the_stock_vocabulary_equals_the_loaded_one(clip):
    stock, loaded = stock_clip_vocabulary(), vocabularies_of(clip)[0]
    assert stock.words == loaded.words and stock.rare == loaded.rare
    assert list(stock.tokenize("a sks dog")) == [320, 48136, 1929]


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
    (warning,) = warnings_about(identifier, "dog", [stock_clip_vocabulary()])
    assert complaint in warning and "Take one from Identifier Picker." in warning


def test_a_learned_embedding_is_not_read_as_text_where_no_clip_is_connected():
    assert warnings_about("embedding:my_dog", "dog", [stock_clip_vocabulary()]) == ()


def test_a_picked_identifier_gives_no_warning_and_an_empty_noun_one():
    assert warnings_about("sks wrs", "dog", [stock_clip_vocabulary()]) == ()
    (warning,) = warnings_about("sks", " ", [stock_clip_vocabulary()])
    assert "class noun is empty" in warning


class TokenizersOnly:
    """What `vocabularies_of` needs of a CLIP object; no weights of the large encoders are needed to read words."""

    def __init__(self, tokenizer):
        self.tokenizer, self.tokenize = tokenizer, tokenizer.tokenize_with_weights


def test_both_encoders_of_sdxl_read_the_identifier_as_the_same_tokens():
    vocabularies = vocabularies_of(TokenizersOnly(SDXLTokenizer()))
    assert sorted(vocabulary.name for vocabulary in vocabularies) == ["clip_g", "clip_l"]
    for candidate in find_candidates(vocabularies, class_noun="toy car", tokens=2, count=20):
        assert candidate.token_ids["clip_g"] == candidate.token_ids["clip_l"]


def test_clip_and_t5_together_give_words_that_are_one_token_in_each():
    vocabularies = vocabularies_of(TokenizersOnly(FluxTokenizer()))
    assert sorted(vocabulary.name for vocabulary in vocabularies) == ["clip_l", "t5xxl"]
    for candidate in find_candidates(vocabularies, class_noun="dog", count=5):
        assert all(len(ids) == 1 for ids in candidate.token_ids.values())
        assert any("rare in" in reason for reason in candidate.reasons)


def test_t5_words_are_drawn_from_the_papers_range():
    (t5,) = [v for v in vocabularies_of(TokenizersOnly(FluxTokenizer())) if v.name == "t5xxl"]
    for candidate in find_candidates([t5], class_noun="dog", tokens=3, count=10):
        assert len(candidate.token_ids["t5xxl"]) == 3
        assert all(5000 <= index <= 10000 for index in candidate.token_ids["t5xxl"])


def test_too_many_candidates_for_encoders_with_little_in_common_are_refused():
    vocabularies = vocabularies_of(TokenizersOnly(FluxTokenizer()))
    with pytest.raises(InputError, match="candidates: got .* safe identifiers of 3 tokens, expected 64"):
        find_candidates(vocabularies, class_noun="dog", tokens=3, count=64)
