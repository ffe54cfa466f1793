"""The identifier is picked for every text encoder of the loaded CLIP: CLIP-L, CLIP-G, CLIP-H, T5."""

from __future__ import annotations

import functools

import pytest
import torch
from families import FAMILIES, family_models
from run_node import run_node

from comfyui_personalize.core.subject.identifier import rare_words, survives_round_trip
from comfyui_personalize.nodes.bridge.text.vocabulary import CLIP_RARE_FROM, T5_RARE, text_embedder, vocabularies_of
from comfyui_personalize.nodes.identifier_picker import IdentifierPicker

RARE = {"t5xxl": T5_RARE} | dict.fromkeys(("clip_l", "clip_g", "clip_h"), range(CLIP_RARE_FROM, 49_408))


@pytest.fixture(scope="module")
def clips():
    """CLIP of a family, loaded once."""
    return functools.cache(lambda name: family_models(name)[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_each_text_encoder_has_its_vocabulary_and_range(clips, name):
    found = {vocabulary.name: vocabulary.rare for vocabulary in vocabularies_of(clips(name))}
    wanted = {kind if kind.startswith("t5") else f"clip_{kind}" for kind in FAMILIES[name].encoders}
    assert found == {kind: RARE[kind] for kind in wanted}


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_identifier_is_as_many_tokens_in_every_encoder_and_each_word_rare_in_one(clips, name, tokens):
    identifier, _ = run_node(IdentifierPicker, clip=clips(name), class_noun="toy car", tokens=tokens, seed=0,
                             candidates=2, avoid="")
    vocabularies = vocabularies_of(clips(name))
    assert survives_round_trip(identifier, "toy car", vocabularies)
    for vocabulary in vocabularies:
        ids = list(vocabulary.tokenize(identifier))
        assert [vocabulary.words[index] for index in ids] == identifier.split() and len(ids) == tokens
        caption = list(vocabulary.tokenize(f"a {identifier} toy car"))
        article = len(vocabulary.tokenize("a"))  # two tokens in T5
        assert caption[article:article + tokens] == ids
    for word in identifier.split():
        assert any(vocabulary.id_of(word) in vocabulary.rare for vocabulary in vocabularies)


def test_every_word_that_clip_and_t5_share_survives_the_round_trip_in_both(clips):
    vocabularies = vocabularies_of(clips("sd3"))
    words = rare_words(vocabularies)
    assert len(words) >= 20
    assert all(survives_round_trip(word, "dog", vocabularies) for word in words)


def test_a_text_encoder_that_the_checkpoint_lacks_does_not_choose(clips, monkeypatch):
    clip = clips("sd3")
    before = len(rare_words(vocabularies_of(clip)))
    monkeypatch.setitem(clip.cond_stage_model._modules, "t5xxl", None)
    assert sorted(vocabulary.name for vocabulary in vocabularies_of(clip)) == ["clip_g", "clip_l"]
    assert len(rare_words(vocabularies_of(clip))) > 10 * before
    assert text_embedder(clip)("a dog").shape == (128,), "pooled rows of the two CLIPs"


@pytest.mark.parametrize(("name", "widths"), [("sd15", [64]), ("sd3", [128, 4096]), ("flux", [64, 64])])
def test_words_are_ranked_by_all_encoders_alike(clips, name, widths):
    """A cosine of two texts is the mean of the encoders' own cosines."""
    first, second = (text_embedder(clips(name))(text) for text in ("a dog", "a sks dog"))
    cosines = [torch.cosine_similarity(one, other, dim=0)
               for one, other in zip(first.split(widths), second.split(widths), strict=True)]
    assert torch.cosine_similarity(first, second, dim=0) == pytest.approx(float(torch.stack(cosines).mean()), rel=1e-4)
    assert all(float(cosine) < 0.9999 for cosine in cosines), "an encoder does not see the identifier"


def test_t5s_padding_does_not_count(clips):
    """256 rows in Flux, of which a short text fills four."""
    clip = clips("flux")
    rows = clip.encode_from_tokens(clip.tokenize("a dog"), return_pooled=True)[0]
    count = sum(token != 0 for token, *_ in clip.tokenize("a dog")["t5xxl"][0])
    expected = torch.nn.functional.normalize(rows[0, :count].mean(dim=0).float(), dim=0)
    assert torch.allclose(text_embedder(clip)("a dog")[-64:], expected, atol=1e-6)
