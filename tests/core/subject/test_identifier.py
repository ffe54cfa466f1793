"""Identifiers from an abstract vocabulary: which words, in what order, and why not the others."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.english import english_words, is_english_word, is_offensive
from comfyui_personalize.core.subject.identifier import (
    PROBE_WORDS,
    Vocabulary,
    find_candidates,
    rank,
    rare_words,
    refusal,
    report,
    survives_round_trip,
    warnings_about,
    warnings_about_reading,
    weak_priors,
)

COMMON = ["a", "dog", "toy", "car", "sunset"]
RARE = ["wrs", "hns", "qx", "zt", "sks", "ewe", "x1", "77", "é", "jekyll", "isf"]


def vocabulary(name="clip_l", words=(*COMMON, *RARE), rare_from=5, split=()):
    """Ids are positions; a word outside the vocabulary, or one of `split`, reads as its letters (ids from 1000 on)."""
    table = {word: index for index, word in enumerate(words)}

    def tokenize(text):
        ids = []
        for word in text.split():
            known = word in table and word not in split
            ids += [table[word]] if known else [1000 + ord(letter) for letter in word]
        return ids

    entries = {index: word for word, index in table.items()}
    return Vocabulary(
        name=name, words=entries, pieces=entries, rare=range(rare_from, len(words)), tokenize=tokenize
    )


def test_rare_words_are_short_meaningless_and_plain():
    assert rare_words([vocabulary()]) == ("hns", "isf", "qx", "sks", "wrs", "x1", "zt")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("jekyll", "has 6 characters"),
        ("x", "has 1 characters"),
        ("é1", "other than plain letters"),
        ("77", "is a number"),
        ("ewe", "is an English word"),
        ("Ewe", "is an English word"),
        ("fck", "is offensive"),
        ("sks", None),
    ],
)
def test_refusal_names_the_reason(word, reason):
    got = refusal(word)
    assert (reason is None and got is None) or reason in got


def test_avoided_words_are_left_out_whatever_their_case():
    assert "sks" not in rare_words([vocabulary()], avoid=["SKS"])


def test_two_encoders_share_the_words_that_are_rare_in_one_and_single_in_both():
    other = vocabulary("t5xxl", words=("a", "dog", "zt", "wrs", "mit", "uer"), rare_from=4)
    assert rare_words([vocabulary(), other]) == ("wrs", "zt")


def test_candidates_are_drawn_without_replacement_by_seed():
    draw = lambda **settings: [c.text for c in find_candidates([vocabulary()], class_noun="dog", **settings)]  # noqa: E731
    everything = draw(count=7)
    assert sorted(everything) == ["hns", "isf", "qx", "sks", "wrs", "x1", "zt"]
    assert draw(count=7) == everything and draw(count=3) == everything[:3]
    assert draw(count=7, seed=1) != everything
    pairs = draw(count=3, tokens=2)
    assert len({word for pair in pairs for word in pair.split()}) == 6


def test_draws_are_uniform():
    firsts = [
        find_candidates([vocabulary()], class_noun="dog", count=1, seed=seed)[0].text for seed in range(700)
    ]
    assert all(70 <= firsts.count(word) <= 130 for word in set(firsts)) and len(set(firsts)) == 7


def test_global_random_state_is_neither_used_nor_moved():
    before = torch.random.get_rng_state()
    find_candidates([vocabulary()], class_noun="dog", count=7)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_word_that_reads_in_pieces_does_not_survive():
    broken = vocabulary(split=("sks",))
    assert not survives_round_trip("sks", "dog", [broken]) and survives_round_trip(
        "wrs zt", "toy car", [broken]
    )
    assert "sks" not in [c.text for c in find_candidates([broken], class_noun="dog", count=6)]


def test_a_word_that_melts_into_the_caption_does_not_survive():
    plain = vocabulary()
    melting = vocabulary()
    object.__setattr__(melting, "tokenize", lambda text: plain.tokenize(text.replace("sks dog", "sunset")))
    assert not survives_round_trip("sks", "dog", [melting]) and survives_round_trip("sks", "car", [melting])


def test_every_candidate_says_its_ids_and_why_it_is_safe():
    (candidate,) = find_candidates([vocabulary()], class_noun="dog", count=1)
    assert candidate.token_ids == {"clip_l": tuple(vocabulary().tokenize(candidate.text))}
    assert any("rare in clip_l" in reason for reason in candidate.reasons)
    assert any(f"'a {candidate.text} dog'" in reason for reason in candidate.reasons)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 4}, "tokens: got 4, expected 1 to 3"),
        ({"tokens": 0}, "tokens: got 0"),
        ({"count": 0}, "candidates: got 0"),
        ({"count": 99}, "candidates: got 7 safe identifiers of 1 tokens, expected 99. Ask for fewer"),
    ],
)
def test_impossible_requests_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        find_candidates([vocabulary()], class_noun="dog", **settings)


def test_an_encoder_of_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="clip: got a text encoder whose tokenizer holds no words"):
        find_candidates([], class_noun="dog")


def embed(text):
    """Every word is a direction; 'sks' does nothing, 'wrs' acts like 'red', 'zt' goes its own way."""
    axes = {word: index for index, word in enumerate(("a", "dog", *PROBE_WORDS, "zt"))}
    vector = torch.zeros(len(axes))
    for word in text.split():
        if word != "sks":
            vector[axes["red" if word == "wrs" else word]] += 1 if word in ("a", "dog") else 0.5
    return vector


def test_weak_prior_is_one_and_zero_for_a_word_that_does_nothing():
    (prior,) = weak_priors(["sks"], "dog", embed)
    assert (
        prior.closeness == pytest.approx(1)
        and prior.meaning == pytest.approx(0)
        and prior.score == pytest.approx(1)
    )


def test_weak_prior_finds_the_common_word_that_an_identifier_acts_like():
    acting, own_way = weak_priors(["wrs", "zt"], "dog", embed)
    assert acting.nearest == "red" and acting.meaning == pytest.approx(1)
    assert own_way.meaning == pytest.approx(0) and own_way.closeness == pytest.approx(acting.closeness)


def test_ranking_puts_the_weakest_prior_first():
    found = [
        c
        for c in find_candidates([vocabulary()], class_noun="dog", count=7)
        if c.text in ("sks", "wrs", "zt")
    ]
    assert [c.text for c in rank(found, "dog", embed)] == ["sks", "zt", "wrs"]
    table = report(rank(found, "dog", embed), "dog").splitlines()
    assert table[0] == "Use sks. Write 'sks dog' in prompts."
    assert table[4].split()[:2] == ["1", "sks"] and "red" in table[6]
    assert "Why each is safe:" in table


def test_an_unmeasured_table_has_dashes():
    found = find_candidates([vocabulary()], class_noun="", count=1)
    table = report(found, "")
    assert "(no noun)" in table and table.splitlines()[4].split()[2:6] == ["-"] * 4


@pytest.mark.parametrize(
    ("identifier", "complaint"),
    [
        ("dog", "is an English word"),
        ("jekyll", "is an English word"),
        ("sunset", "is a common word"),
        ("abc9", "splits into 4 common pieces in clip_l (#1097 | #1098 | #1099 | #1057)"),
    ],
)
def test_typed_identifiers_with_a_meaning_are_warned_about(identifier, complaint):
    (warning,) = warnings_about(identifier, "dog", [vocabulary()])
    assert complaint in warning


def test_without_a_text_encoder_only_what_is_wrong_in_all_of_them_is_said():
    assert [len(warnings_about(word, "dog")) for word in ("abc9", "qx", "dog", "sunset")] == [0, 0, 1, 0]
    assert "the class noun is empty" in warnings_about("abc9", "")[0]


def test_how_an_encoder_reads_a_word_is_told_apart_from_what_the_word_means():
    words = ("abc9", "qx", "dog", "sunset")
    assert [len(warnings_about_reading(word, [vocabulary()])) for word in words] == [1, 0, 0, 1]
    assert "splits into 4 common pieces" in warnings_about_reading("dog abc9", [vocabulary()])[0]


def test_a_learned_embedding_is_not_warned_about():
    learned = vocabulary()
    object.__setattr__(learned, "tokenize", lambda text: [-1, -1])
    assert warnings_about("embedding:my_dog", "dog", [learned]) == ()


def test_the_word_list_is_plain_lower_case_and_holds_what_is_needed():
    words = english_words()
    assert 5000 < len(words) < 7000 and all(
        word.isascii() and word.isalpha() and word.islower() for word in words
    )
    assert {"a", "cat", "ewe", "dog"} <= words and not {"sks", "wrs", "ktn"} & words
    assert is_english_word("Cat") and is_offensive("JAP") and not is_offensive("sks")
