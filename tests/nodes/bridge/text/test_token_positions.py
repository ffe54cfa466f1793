"""Where a prompt's words stand in the rows that each kind of text encoder gives: real tokenizers, small encoders."""

from __future__ import annotations

import pytest
import torch
from joint_models import joint_clip

from comfyui_personalize.core.dci.subjects import DCISubject, SubjectPrompt
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.dual_prompt import CONDITIONING_KEY, encode_dual_prompt
from comfyui_personalize.nodes.bridge.text.token_positions import context_layout, encoder_tokens, locate_branches

PROMPT = "a photo of a sks dog in times square"
TEXTS = [pytest.param(name, marks=pytest.mark.full if name in ("klein", "longcat", "krea2", "omnigen2") else ())
         for name in ("zimage", "qwen", "klein", "longcat", "ovis", "omnigen2", "krea2", "hyimage")]


def subject(prompt=PROMPT, noun="cat", split=False):
    one = DCISubject(identifier="sks", class_noun="dog", auxiliary_noun=noun)
    return SubjectPrompt(prompt=prompt, subjects=(one,), split=split)


def encoded(clip, chosen):
    with torch.inference_mode():
        (context, extra), = encode_dual_prompt(clip, chosen)
    return context, extra[CONDITIONING_KEY]


def changed_rows(clip, text, other):
    """The rows that differ between two texts of as many tokens, at the first word in which they do and behind it."""
    with torch.inference_mode():
        one, two = (clip.encode_from_tokens(clip.tokenize(each)) for each in (text, other))
    assert one.shape == two.shape
    return ((one - two).abs().amax(-1)[0] > 1e-4 * one.abs().max()).nonzero().flatten().tolist()


@pytest.mark.parametrize("name", TEXTS)
def test_counted_rows_are_those_that_change_with_the_word(name):
    clip = joint_clip(name)
    _, dual = encoded(clip, subject())
    # A language model reads from left to right: the first row that changes with a word is the word's own.
    assert changed_rows(clip, PROMPT, PROMPT.replace("dog", "cat"))[0] == dual.concept.counted[-1]
    assert changed_rows(clip, PROMPT, PROMPT.replace("photo", "dog"))[0] == dual.concept.content[1]
    assert changed_rows(clip, PROMPT, PROMPT.replace("square", "cat"))[0] == dual.concept.content[-1]
    auxiliary = PROMPT.replace("sks dog", "cat")
    left, = set(dual.auxiliary.content) - set(dual.auxiliary.counted)
    assert changed_rows(clip, auxiliary, auxiliary.replace("cat", "dog"))[0] == left


@pytest.mark.parametrize("name", TEXTS)
def test_content_is_the_prompt_without_the_chat_template(name):
    clip = joint_clip(name)
    encoder = context_layout(clip)[0][0]
    found = encoder_tokens(clip, clip.tokenize(PROMPT))[encoder]
    tokenizer = getattr(clip.tokenizer, encoder)
    assert tokenizer.decode(list(found.tokens)).strip() == PROMPT
    concept, auxiliary = locate_branches(clip, subject())
    ids = [entry[0] for entry in clip.tokenize(PROMPT)[encoder][0]]
    assert tokenizer.decode([ids[column] for column in concept.counted]).strip() == "sks dog"
    assert len(auxiliary.content) - len(auxiliary.counted) == 1


@pytest.mark.parametrize("name", ["zimage", "qwen"])
@pytest.mark.parametrize("noun", ["cat", "very old grey cat"])
def test_the_prompt_is_what_stock_encodes_and_both_branches_have_one_length(name, noun):
    clip = joint_clip(name)
    context, dual = encoded(clip, subject(noun=noun))
    with torch.inference_mode():
        assert torch.equal(context, clip.encode_from_tokens(clip.tokenize(PROMPT)))
    is_longer = noun != "cat"
    assert (dual.padded is not None) == is_longer
    long = dual.padded[0] if is_longer else context
    assert long.shape == dual.auxiliary_context.shape
    assert dual.concept.length == dual.auxiliary.length == long.shape[1]
    torch.testing.assert_close(long[:, : dual.concept.content[-1] + 1], context[:, : dual.concept.content[-1] + 1],
                               atol=1e-4 * float(context.abs().max()), rtol=1e-4)


def test_split_prompts_are_found_too():
    _, dual = encoded(joint_clip("qwen"), subject(split=True))
    assert dual.concept.content == dual.concept.counted == (0, 1, 2)  # s, ks, dog
    assert dual.auxiliary.content == dual.auxiliary.counted


def test_a_text_that_the_network_makes_of_token_ids_counts_their_columns():
    clip = joint_clip("anima")
    context, dual = encoded(clip, subject())
    ids = [entry[0] for entry in clip.tokenize(PROMPT)["t5xxl"][0]]
    phrase = [entry[0] for entry in clip.tokenize("sks dog")["t5xxl"][0]][:-1]
    assert [ids[column] for column in dual.concept.counted] == phrase and context.shape[1] < len(ids)


def test_a_prompt_without_the_subject_shows_its_words_without_the_template():
    with pytest.raises(InputError, match="prompt: got the tokens a.*dog, expected 'sks dog' in it") as error:
        locate_branches(joint_clip("qwen"), subject("a dog"))
    assert "im_start" not in str(error.value)
