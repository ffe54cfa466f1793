"""Texts lose what nobody can see and nothing else; control characters and halves of characters are refused."""

import random

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.wording import clean_prompt, clean_text, fold, has_word

INVISIBLE = ("\ufeff", "\u200b", "\u200c", "\u200d", "\u2060", "\u00ad", "\u200e", "\u200f", "\u202a", "\u202e",
             "\u2066", "\u2069", "\u061c", "\u180e", "\u034f", "\u3164", "\ufe0f", "\ufffc", "\U000e0041")
ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize("mark", INVISIBLE, ids=lambda mark: f"U+{ord(mark):04X}")
def test_an_invisible_character_leaves_no_trace_wherever_it_stands(mark):
    for text in (f"{mark}zkz dog", f"zkz{mark} dog", f"z{mark}kz dog", f"zkz dog{mark}", f"zkz dog{mark * 3}"):
        assert clean_text(text, "captions") == "zkz dog"


@pytest.mark.parametrize("space", ["\u00a0", "\u2007", "\u202f", "\u2009", "\u3000", "\u205f", "\u1680"])
def test_every_kind_of_space_is_a_space(space):
    assert clean_text(f"zkz{space}dog", "captions") == "zkz dog"


@pytest.mark.parametrize("text", [
    "a (zkz:1.2) dog, {V} embedding:x\n\ttwo lines\r\n", "ｚｋｚ ｄｏｇ", "犬と猫。『写真』", "Straße in Zürich, naïve",
    "❤️ 👩\u200d🍳 🤷🏽\u200d♂️ ❤️\u200d🔥 1️⃣ 🇩🇪 👨\u200d👩\u200d👧", ENGLAND,
    "می\u200cروم", "क्\u200dष", "ക്\u200d", "ᠮᠣᠩᠭᠣᠯ", "a\u0085b\u2028c", "\ue000 �"])
def test_what_can_be_seen_or_shapes_its_neighbours_stays(text):
    assert clean_text(text, "captions") == text


def test_a_letter_and_its_accent_are_composed_as_clip_composes_them():
    assert clean_text("cafe\u0301", "prompt") == clean_text("cafe\u200b\u0301", "prompt") == "café"


def test_cleaning_twice_is_cleaning_once():
    draw = random.Random(0)
    pieces = [*INVISIBLE, "a", "1", " ", "\u00a0", "❤", "👩", "🏽", "\u20e3", "ی", "र", "्", "\u0301", "犬", "\n"]
    for _ in range(3000):
        clean = clean_text("".join(draw.choices(pieces, k=8)), "prompt")
        assert clean_text(clean, "prompt") == clean


@pytest.mark.parametrize(("text", "said"), [
    ("dog\x00", "U\\+0000 after 'dog'"), ("\ud800", "U\\+D800 after ''"), ("é\udfff", r"U\+DFFF after '\\xe9'"),
    ("don\x92t", "U\\+0092 after 'don'"), ("\ufffe", "U\\+FFFE"), ("\x1b[0m", "U\\+001B")])
def test_control_characters_and_halves_of_characters_are_refused_by_the_inputs_name(text, said):
    with pytest.raises(InputError, match=f"run_name: got the character {said}") as refusal:
        clean_text(text, "run_name")
    str(refusal.value).encode()


@pytest.mark.parametrize("text", ["embedding:", "a embedding: dog", "(embedding::1.2)", "embedding:, dog",
                                  "(embedding:)", "embedding:\u200b", "embedding:\ndog", r"embedding:\) x"])
def test_embedding_without_a_name_is_refused(text):
    with pytest.raises(InputError, match="class_noun: got 'embedding:' without a name"):
        clean_prompt(text, "class_noun")


@pytest.mark.parametrize("text", ["embedding:zkz", "(embedding:zkz:1.2), dog", "embedding:{V}", "embedding:熊",
                                  "noembedding: x"])
def test_embedding_with_a_name_is_kept(text):
    assert clean_prompt(text, "prompt") == text


def test_words_that_clip_reads_alike_fold_to_one():
    assert fold("  ZKZ\n Dog ") == fold("zkz dog") != fold("zkzdog")
    assert fold("cafe\u0301") == fold("CAFÉ") and fold("ｄｏｇ") != fold("dog")


def test_a_word_is_found_whole_in_any_case_and_beside_any_punctuation():
    for text in ("Zkz dog", "x,ZKZ", "“zkz”", "zkz's", "zkz。", "(zkz:1.2)", "zkz\ndog"):
        assert has_word(text, "zkz")
    assert not any(has_word(text, "zkz") for text in ("zkzz", "azkz", "zkz犬", "zkz_2", ""))
    assert has_word("xq \n zt", "Xq zt") and has_word("a C++, desert", "c++")
