"""The identifier is picked for every text encoder of the loaded CLIP: CLIP-L, CLIP-G, CLIP-H, T5."""

from __future__ import annotations

import functools

import comfy.text_encoders.flux as flux_text
import pytest
import torch
from comfy.text_encoders import z_image
from families import FAMILIES, family_models
from language_models import small_clip
from run_node import run_node

from comfyui_personalize.core.subject.identifier import survives_round_trip
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
@pytest.mark.parametrize("name", [name for name in FAMILIES if "t5xxl" not in FAMILIES[name].encoders])
def test_the_identifier_is_as_many_tokens_in_every_clip_and_each_word_rare(clips, name, tokens):
    identifier, *_ = run_node(IdentifierPicker, clip=clips(name), class_noun="toy car", tokens=tokens, seed=0,
                             candidates=2, avoid="")
    vocabularies = vocabularies_of(clips(name))
    assert survives_round_trip(identifier, "toy car", vocabularies)
    for vocabulary in vocabularies:
        ids = list(vocabulary.tokenize(identifier))
        assert [vocabulary.words[index] for index in ids] == identifier.split() and len(ids) == tokens
        assert all(index in vocabulary.rare for index in ids)
        assert list(vocabulary.tokenize(f"a {identifier} toy car"))[1:1 + tokens] == ids


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name in FAMILIES if "t5xxl" in FAMILIES[name].encoders])
def test_beside_t5_the_identifier_is_one_word_of_three_rare_tokens_at_most_in_every_encoder(clips, name, tokens):
    identifier, report, _ = run_node(IdentifierPicker, clip=clips(name), class_noun="toy car", tokens=tokens, seed=0,
                                  candidates=3, avoid="")
    assert identifier.isalpha() and report.splitlines()[4].split()[1] == identifier
    for vocabulary in vocabularies_of(clips(name)):
        ids = vocabulary.read(identifier)
        assert 1 <= len(ids) <= 3 and "".join(vocabulary.pieces[index] for index in ids) == identifier
        assert all(len(vocabulary.pieces[index]) in (0, 2, 3) for index in ids), "no letter of its own"


def test_a_text_encoder_that_the_checkpoint_lacks_does_not_choose(clips, monkeypatch):
    clip = clips("sd3")
    monkeypatch.setitem(clip.cond_stage_model._modules, "t5xxl", None)
    assert sorted(vocabulary.name for vocabulary in vocabularies_of(clip)) == ["clip_g", "clip_l"]
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


def test_a_language_models_rows_count_from_the_texts_first_token_on():
    """Z-Image: the chat template before the text is the same for every text."""
    clip = small_clip(z_image.te(), z_image.ZImageTokenizer, "qwen3_4b")
    ids = [token for token, *_ in clip.tokenize("a dog")["qwen3_4b"][0]]
    rows = clip.encode_from_tokens(clip.tokenize("a dog"), return_pooled=True)[0][0]
    start = ids.index(64)  # "a"
    assert 0 < start < len(ids) == len(rows)
    expected = torch.nn.functional.normalize(rows[start:].mean(dim=0).float(), dim=0)
    assert torch.allclose(text_embedder(clip)("a dog"), expected, atol=1e-6)


def test_padding_behind_a_language_models_text_does_not_count():
    """Flux.2 klein: 512 rows."""
    clip = small_clip(flux_text.klein_te(), flux_text.KleinTokenizer, "qwen3_4b", num_hidden_layers=28)
    ids = [token for token, *_ in clip.tokenize("a dog")["qwen3_4b"][0]]
    rows = clip.encode_from_tokens(clip.tokenize("a dog"), return_pooled=True)[0][0]
    assert len(ids) == len(rows) == 512
    expected = torch.nn.functional.normalize(rows[ids.index(64):ids.index(151643)].mean(dim=0).float(), dim=0)
    assert torch.allclose(text_embedder(clip)("a dog"), expected, atol=1e-6)


def test_a_language_model_has_its_identifier_picked_and_ranked():
    clip = small_clip(z_image.te(), z_image.ZImageTokenizer, "qwen3_4b")
    identifier, report, _ = run_node(IdentifierPicker, clip=clip, class_noun="dog", tokens=2, seed=0, candidates=3,
                                  avoid="")
    rows = report.splitlines()[4:7]
    scores = [float(row.split()[2]) for row in rows]
    assert rows[0].split()[1] == identifier and scores == sorted(scores, reverse=True) and len(set(scores)) > 1
    (vocabulary,) = vocabularies_of(clip)
    assert len(vocabulary.read(identifier)) == 2
