"""Token positions of both branches with CLIP's own tokenizer, and what is refused before anything is
encoded."""

from __future__ import annotations

import pytest
import torch
from dci_rig import PROMPT, apply_dci, counted_rows, empty_latent, encode, ksample, steps_in_window
from families import family_models

from comfyui_personalize.core.dci.subjects import DCISubject, SubjectPrompt
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.dual_prompt import encode_dual_prompt
from comfyui_personalize.nodes.bridge.text.token_positions import encoder_tokens, locate_branches


def subject(prompt=PROMPT, identifier="sks", class_noun="dog", auxiliary_noun="cat"):
    one = DCISubject(identifier=identifier, class_noun=class_noun, auxiliary_noun=auxiliary_noun)
    return SubjectPrompt(prompt=prompt, subjects=(one,))


def words_at(clip, text, columns):
    ids = [entry[0] for chunk in clip.tokenize(text)["l"] for entry in chunk]
    return [clip.tokenizer.untokenize([(ids[column], 1.0)])[0][1].removesuffix("</w>") for column in columns]


def test_concept_counts_the_subject_and_auxiliary_counts_all_but_its_noun(tiny):
    concept, auxiliary = locate_branches(tiny[1], subject())
    assert concept.length == auxiliary.length == 77
    assert concept.content == tuple(range(1, 10)) and concept.counted == (5, 6)
    assert auxiliary.content == tuple(range(1, 9)) and auxiliary.counted == (1, 2, 3, 4, 6, 7, 8)


@pytest.mark.parametrize("prompt", ["a (sks:1.3) dog at sea", "a (sks dog:1.3) at sea", "A SKS  Dog at sea",
                                    "a ((sks) (dog:0.8)) at sea"])
def test_weights_and_case_do_not_move_the_tokens(tiny, prompt):
    concept, auxiliary = locate_branches(tiny[1], subject(prompt))
    assert concept.content == (1, 2, 3, 4, 5) and concept.counted == (2, 3) and auxiliary.counted == (1, 3, 4)


def test_weight_of_the_subject_stays_on_the_auxiliary_noun(tiny):
    text = subject("a (sks:1.3) dog at sea").auxiliary_texts[0]
    weighted = [weight for _, weight in tiny[1].tokenize(text)["l"][0]]
    assert text == "a (cat:1.3) at sea" and weighted[1:5] == [1.0, 1.3, 1.0, 1.0]


def test_identifiers_and_nouns_of_several_tokens(tiny):
    chosen = subject("a V* shiba inu on a skyscraper", "V*", "shiba inu", "borzoi")
    concept, auxiliary = locate_branches(tiny[1], chosen)
    assert "".join(words_at(tiny[1], chosen.prompt, concept.counted)) == "v*shibainu"
    rest = words_at(tiny[1], chosen.auxiliary_texts[0], auxiliary.counted)
    assert "".join(rest) == "aonaskyscraper" and len(auxiliary.content) - len(auxiliary.counted) == 3


TAGS = [  # prompt, V, noun, auxiliary noun, the subject's tokens, the auxiliary prompt's tokens that count
    (r"1girl, shu \(arknights\), solo", r"shu \(arknights\)", "", "1boy", "shu(arknights),", "1girl,,solo"),
    (r"(shu \(arknights\):1.2), solo", r"shu \(arknights\)", "", "1boy", "shu(arknights)", ",solo"),
    ("a C++, desert", "C++", "", "cat", "c++,", "a,desert"),
    ("photo of zkz!, desert", "zkz!", "", "cat", "zkz!,", "photoof,desert"),
    ("a zkz dog. desert", "zkz", "dog", "mr.", "zkzdog", "adesert"),
    ("see zkz mr. smith.. ", "zkz", "mr. smith", "cat", "zkzmr.smith", "see.."),
    ('a "zkz dog", “zkz dog”!', "zkz", "dog", "cat", "zkzdogzkzdog", 'a"",“”!'),
    ("a zkz dog's bowl", "zkz", "dog", "cat", "zkzdog", "a'sbowl"),
    ("zkz (toy:1.2) dog, red", "zkz", "toy dog", "cat", "zkztoydog", ",red"),
    ("((zkz) toy:1.2) (dog:0.8), red", "zkz", "toy dog", "cat", "zkztoydog", ",red"),
]


@pytest.mark.parametrize(("prompt", "identifier", "noun", "auxiliary", "concept", "rest"), TAGS)
def test_a_token_shared_with_punctuation_belongs_to_the_subject_or_to_its_replacement(
        tiny, prompt, identifier, noun, auxiliary, concept, rest):
    chosen = subject(prompt, identifier, noun, auxiliary)
    own, other = locate_branches(tiny[1], chosen)
    assert decoded(tiny[1], chosen.prompt, own.counted) == concept
    assert decoded(tiny[1], chosen.auxiliary_texts[0], other.counted) == rest


def decoded(clip, text, columns):
    ids = [entry[0] for chunk in clip.tokenize(text)["l"] for entry in chunk]
    return clip.tokenizer.clip_l.tokenizer.decode([ids[column] for column in columns]).replace(" ", "")


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
@pytest.mark.parametrize(("prompt", "identifier", "noun", "auxiliary", "concept", "rest"), TAGS)
def test_every_kind_of_text_encoder_finds_them(family, prompt, identifier, noun, auxiliary, concept, rest):
    clip = family_models(family)[1]
    own, other = locate_branches(clip, subject(prompt, identifier, noun, auxiliary))
    assert own.counted and set(own.counted) < set(own.content) and set(other.counted) < set(other.content)


@pytest.mark.parametrize(("prompt", "identifier", "said"), [
    ("a SKS dog at sea", "sks", "this text encoder reads 'SKS dog' as another word"),
    ("a dog at sea", "sks", "expected 'sks dog' in it")])
def test_t5_says_that_it_reads_capitals_as_another_word(prompt, identifier, said):
    with pytest.raises(InputError, match=said):
        locate_branches(family_models("flux")[1], subject(prompt, identifier))


def test_a_subject_that_is_there_but_cannot_be_replaced_is_not_called_missing(tiny):
    with pytest.raises(InputError, match="'a sks2 at sea', of which .* expected 'sks' in it, each time as plain words"):
        locate_branches(tiny[1], subject("a sks2 at sea", class_noun=""))


def test_every_occurrence_of_the_subject_counts(tiny):
    chosen = subject("sks dog beside a sks dog", auxiliary_noun="rubber duck")
    concept, auxiliary = locate_branches(tiny[1], chosen)
    assert concept.counted == (1, 2, 5, 6) and auxiliary.counted == (3, 4)


def test_auxiliary_noun_that_the_prompt_holds_elsewhere_still_counts_there(tiny):
    _, auxiliary = locate_branches(tiny[1], subject("a cat and a sks dog"))
    assert auxiliary.counted == (1, 2, 3, 4)


def test_subject_across_a_chunk_boundary_is_found(tiny):
    prompt = " ".join(["word"] * 74) + " sks dog in a bucket"
    concept, auxiliary = locate_branches(tiny[1], subject(prompt))
    assert words_at(tiny[1], prompt, concept.counted) == ["sks", "dog"]
    assert concept.length == 154 and concept.counted == (75, 78) and len(concept.content) == 79
    assert auxiliary.length == 154 and len(auxiliary.counted) == 77


def test_learned_embeddings_are_found_by_their_vectors(tiny, base_directory):
    from safetensors.torch import save_file

    folder = base_directory / "models" / "embeddings"
    vectors = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    save_file({"clip_l": vectors}, folder / "mine.safetensors")
    clip = tiny[1].clone()
    clip.tokenizer.clip_l.embedding_directory = [str(folder)]
    try:
        chosen = subject("a embedding:mine dog at sea", "embedding:mine")
        concept, auxiliary = locate_branches(clip, chosen)
        assert concept.content == tuple(range(1, 7)) and concept.counted == (2, 3, 4)
        assert chosen.auxiliary_texts == ("a cat at sea",) and auxiliary.counted == (1, 3, 4)
    finally:
        clip.tokenizer.clip_l.embedding_directory = None


def test_empty_class_noun_takes_the_identifier_alone_and_is_warned_about(tiny):
    chosen = subject("a sks at sea", class_noun=" ")
    assert locate_branches(tiny[1], chosen)[0].counted == (2,)
    assert any("class noun is empty" in text for text in chosen.warnings)


@pytest.mark.parametrize("prompt", ["a dog at sea", "a sks cat at sea", "a sks-dog", "sks doge", "a sks, dog",
                                    ""])
def test_subject_missing_from_the_prompt_shows_the_tokens(tiny, prompt):
    with pytest.raises(InputError) as error:
        locate_branches(tiny[1], subject(prompt))
    words = encoder_tokens(tiny[1], tiny[1].tokenize(prompt))["l"]
    shown = " | ".join(words_at(tiny[1], prompt, words.columns)) or "(none)"
    assert error.value.name == "prompt" and shown in str(error.value) and "sks | dog" in str(error.value)


@pytest.mark.parametrize(("changes", "name"), [
    ({"identifier": " "}, "identifier"), ({"auxiliary_noun": "DOG "}, "auxiliary_noun"),
    ({"auxiliary_noun": ""}, "auxiliary_noun"), ({"auxiliary_noun": "sks cat"}, "auxiliary_noun"),
])
def test_wrong_words_are_refused_with_their_input(changes, name):
    with pytest.raises(InputError) as error:
        subject(**changes)
    assert error.value.name == name


def test_synonyms_and_empty_surroundings_are_warned_about():
    assert subject().warnings == ()
    assert "much the same" in subject(auxiliary_noun="puppy").warnings[0]
    assert "nothing but the subject" in subject("sks dog").warnings[0]


def test_conditioning_is_what_stock_text_encode_gives(tiny):
    with torch.inference_mode():
        (context, extra), = encode_dual_prompt(tiny[1], subject())
    stock, = encode(tiny[1], PROMPT)
    other, = encode(tiny[1], "a photo of a cat in times square")
    assert torch.equal(context, stock[0]) and torch.equal(extra["pooled_output"], stock[1]["pooled_output"])
    assert torch.equal(extra["personalize_dci"].auxiliary_context, other[0])


@pytest.mark.parametrize(("words", "noun", "negative"), [
    (80, "cat", ""), (80, "cat", "word " * 80), (10, "cat", "word " * 160), (73, "very long cat", ""),
])
def test_prompts_over_77_tokens_sample(tiny, words, noun, negative):
    model, positive = apply_dci(*tiny, prompt="a sks dog " + "word " * words, auxiliary_noun=noun)
    with counted_rows(model) as calls:
        assert ksample(model, positive, encode(tiny[1], negative), empty_latent(2)).isfinite().all()
    assert sum(calls) == 32 + 2 * steps_in_window(8)
