"""Learned vectors are read in prompts as stock ComfyUI reads textual inversion files, with gradients to the vectors."""

from __future__ import annotations

import pytest
import torch
from families import family_models
from safetensors.torch import save_file
from tiny_model import tiny_models
from torch import nn

from comfyui_personalize.core.dci.spelling import find_phrase, spell
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.token_vectors import reads, replace_words
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.text.encoder import ComfyTextEncoder, encode, out_of_place_layers
from comfyui_personalize.nodes.bridge.text.learned_vectors import (
    embedding_name,
    file_tensors,
    reading_clip,
    tokenize_with_vectors,
    with_embedding_names,
)
from comfyui_personalize.nodes.bridge.text.token_pieces import piece_of

pytestmark = pytest.mark.usefixtures("inference_mode")
PROMPTS = ["a sks dog", "sks", "a (sks:1.4) dog, [plain]", "sks, on the beach. A Sks!",
           "word " * 80 + "sks dog", f"({'word ' * 72}:0.7) sks dog"]
CLIPS = {"sd15": "l", "sd21": "h", "sdxl": "gl"}


@pytest.fixture(scope="module")
def clips():
    return {name: family_models(name)[1] for name in CLIPS}


@pytest.fixture(scope="module")
def clip():
    return tiny_models()[1]


def words(clip, count=2, seed=0) -> dict[str, dict[str, nn.Parameter]]:
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False):
        return {"sks": {kind: nn.Parameter(torch.randn(count, width, generator=generator))
                        for kind, width in ComfyTextEncoder(clip).widths.items()}}


def encode_all(clip, vectors, *prompts):
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model), torch.no_grad():
        return ComfyTextEncoder(clip).encode(prompts, vectors)


def encoded(clip, prompt, vectors):
    return encode_all(clip, vectors, prompt)[0]


def assert_same(rows, others):
    for row, other in zip(rows, others, strict=True):
        assert torch.allclose(row.context, other.context, atol=1e-5)
        assert torch.allclose(row.pooled, other.pooled, atol=1e-5)


@pytest.mark.parametrize("family", CLIPS)
def test_vectors_equal_to_the_words_own_rows_change_nothing(clips, family):
    clip, expected = clips[family], [encode(clips[family], prompt) for prompt in PROMPTS]
    assert set(ComfyTextEncoder(clip).widths) == set(CLIPS[family])
    assert_same(encode_all(clip, {"sks": ComfyTextEncoder(clip).token_rows("sks")}, *PROMPTS), expected)


@pytest.mark.parametrize("family", CLIPS)
def test_a_saved_file_reads_the_same_in_stock_encoding(clips, family, tmp_path, monkeypatch):
    clip, found = clips[family], words(clips[family], count=3)
    trained = encode_all(clip, found, *PROMPTS)
    save_file({key: value.detach() for key, value in file_tensors(found["sks"]).items()},
              tmp_path / "subject.safetensors")
    for part in vars(clip.tokenizer).values():
        if hasattr(part, "embedding_directory"):
            monkeypatch.setattr(part, "embedding_directory", [str(tmp_path)])
    assert_same([encode(clip, with_embedding_names(prompt, {"sks": "subject"})) for prompt in PROMPTS], trained)


@pytest.mark.parametrize("family", CLIPS)
def test_gradients_reach_every_vector_of_a_frozen_encoder_and_nothing_else(clips, family):
    clip, found = clips[family], words(clips[family], count=2)
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model):
        row = ComfyTextEncoder(clip).encode(["a (sks:1.3) dog"], found)[0]
        (row.context.square().mean() + row.pooled.square().mean()).backward()
    for vectors in found["sks"].values():
        assert bool((vectors.grad.abs().sum(dim=1) > 0).all())
    assert all(parameter.grad is None for parameter in clip.cond_stage_model.parameters())


def test_a_prompt_without_the_word_is_encoded_as_ever(clip):
    assert torch.equal(encoded(clip, "a sksy dog", words(clip)).context, encode(clip, "a sksy dog").context)


def test_more_vectors_than_one_chunk_holds_go_to_the_next(clip):
    assert encoded(clip, "word " * 74 + "sks", words(clip, count=3)).context.shape[1] == 154


def test_a_reading_clip_knows_the_name_and_the_clip_itself_does_not(clip):
    found = words(clip)
    reader = reading_clip(clip, {"subject": found["sks"]})
    expected = encoded(clip, "a sks, dog", found)
    assert torch.allclose(encode(reader, "a embedding:subject, dog").context, expected.context, atol=1e-5)
    assert not any(torch.is_tensor(token) for token, _ in clip.tokenize("a embedding:subject, dog")["l"][0])
    assert reader.patcher.model is clip.patcher.model


PUNCTUATED = ["a {}.", "a {};", "{}'s dog", '"{}"', "x,{}", "({}:1.3)", "(({}) dog:0.8)", "[{}]", "{}!?", "a {}: red",
              "<{}>", r"\({}\)", "{}\ndog", "a\n{}", "“{}”", "「{}」。", "¿{}?", "{}…", "{}/dog", "{}-like", "{}.Then",
              "x,({}),y", "{},{}", "{} {}", "(a:1.2){}"]


@pytest.mark.parametrize("family", CLIPS)
@pytest.mark.parametrize("text", PUNCTUATED)
@pytest.mark.parametrize("spelling", ["subject", "Subject"])
def test_a_learned_name_is_found_beside_any_punctuation_in_any_case(clips, family, text, spelling):
    clip, found = clips[family], words(clips[family], count=3)
    written = text.replace("{}", f"embedding:{spelling}")
    tokens = reading_clip(clip, {"subject": found["sks"]}).tokenize(written)
    expected = tokenize_with_vectors(clip, text.replace("{}", "sks"), found)
    for kind in CLIPS[family]:
        assert_same_tokens(tokens[kind], expected[kind])
        learned = [entry for chunk in tokens[kind] for entry in chunk if torch.is_tensor(entry[0])]
        assert len(learned) == 3 * text.count("{}")


def assert_same_tokens(chunks, others):
    flat, other = ([entry[:2] for chunk in both for entry in chunk] for both in (chunks, others))
    assert len(flat) == len(other)
    for (token, weight), (expected, expected_weight) in zip(flat, other, strict=True):
        assert weight == expected_weight
        assert torch.equal(token, expected) if torch.is_tensor(token) else token == expected


@pytest.mark.parametrize("text", ["embedding:subjects", "embedding:subject2", "embedding:asubject",
                                  "embedding:subject_b", "myembedding:subject", "embedding:subjectの写真"])
def test_a_longer_name_is_another_name(clip, text):
    reader = reading_clip(clip, {"subject": words(clip)["sks"]})
    assert not any(torch.is_tensor(token) for token, _ in reader.tokenize(text)["l"][0])


def test_of_two_learned_names_the_longer_and_the_one_in_its_own_case_is_read(clip):
    found = {name: {"l": torch.full((1, 64), value)} for name, value in (("dog", 1.0), ("dog-2", 2.0), ("Dog", 3.0))}
    reader = reading_clip(clip, found)
    text = "embedding:dog. embedding:dog-2; embedding:Dog, embedding:DOG-2 embedding:DOG-3"
    read = [float(token[0]) for token, _ in reader.tokenize(text)["l"][0] if torch.is_tensor(token)]
    assert read == [1, 2, 3, 2, 1]


def test_names_learned_one_after_the_other_are_all_found(clip):
    first = reading_clip(clip, {"one": {"l": torch.full((1, 64), 1.0)}})
    both = reading_clip(first.clone(), {"two": {"l": torch.full((1, 64), 2.0)}})
    tokens = both.tokenize('"embedding:one","embedding:two".')["l"][0]
    assert [float(token[0]) for token, _ in tokens if torch.is_tensor(token)] == [1, 2]
    assert not any(torch.is_tensor(token) for token, _ in first.tokenize("embedding:two")["l"][0])


def test_a_name_of_nothing_is_nothing(clip):
    reader = reading_clip(clip, {"one": {"l": torch.ones(1, 64)}})
    assert reader.tokenize("a embedding: ")["l"][0][:3] == clip.tokenize("a")["l"][0][:3]


def test_a_file_whose_name_goes_on_is_read_as_itself(clip, tmp_path, monkeypatch):
    for name, value in (("subject-2", 2.0), ("subject.v3", 3.0)):
        save_file({"clip_l": torch.full((1, 64), value)}, tmp_path / f"{name}.safetensors")
    monkeypatch.setattr(clip.tokenizer.clip_l, "embedding_directory", [str(tmp_path)])
    reader = reading_clip(clip, {"subject": {"l": torch.full((1, 64), 1.0)}})
    tokens = reader.tokenize("embedding:subject-2 embedding:subject.v3 embedding:subject-4")["l"][0]
    assert [float(token[0]) for token, _ in tokens if torch.is_tensor(token)] == [2, 3, 1]


def test_a_reading_clip_still_finds_files(clip, tmp_path, monkeypatch):
    save_file({"clip_l": torch.ones(1, 64)}, tmp_path / "other.safetensors")
    monkeypatch.setattr(clip.tokenizer.clip_l, "embedding_directory", [str(tmp_path)])
    reader = reading_clip(clip, {"subject": {"l": torch.zeros(2, 64)}})
    tokens = [token for token, _ in reader.tokenize("embedding:other embedding:subject dog")["l"][0][1:4]]
    assert [float(token.sum()) for token in tokens] == [64, 0, 0]


def test_dci_finds_learned_vectors_as_phrases(clip):
    reader = reading_clip(clip, {"sks": words(clip, count=3)["sks"]})
    piece = piece_of(reader.tokenizer.clip_l)
    prompt = [entry[0] for entry in reader.tokenize("a photo of embedding:sks dog. On the beach")["l"][0]][1:11]
    phrase = [entry[0] for entry in reader.tokenize("embedding:sks dog")["l"][0]][1:5]
    text = spell(prompt, piece)
    start, = find_phrase(text, spell(phrase, piece))
    assert text.tokens(start, 6) == range(3, 7)


def test_token_rows_are_the_tables_rows_or_a_files_vectors(clip):
    encoder = ComfyTextEncoder(reading_clip(clip, {"given": {"l": torch.full((2, 64), 7.0)}}))
    table = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    ids = [entry[0] for entry in clip.tokenize("big dog")["l"][0]][1:3]
    assert torch.equal(encoder.token_rows("big dog")["l"], table[ids].float())
    assert encoder.token_rows("embedding:given")["l"].tolist() == [[7.0] * 64] * 2
    with pytest.raises(InputError, match="start_text: got ' '"):
        encoder.token_rows(" ")


def test_words_stand_whole_and_in_any_case():
    assert reads("a SKS-dog", "sks") and reads("(sks:1.2)", "sks") and reads("learned1.", "learned1")
    assert not reads("a sksy dog", "sks") and not reads("learned12", "learned1")
    assert not reads("a embedding:sks dog", "sks")
    assert replace_words("V Vx V", ["V", "Vx"], lambda word: f"<{word}>") == "<V> <Vx> <V>"


def test_names_of_files_are_plain():
    assert [embedding_name(word) for word in ("sks", "xq zt", "<new1>", "熊", "**")] == \
        ["sks", "xq_zt", "new1", "熊", "learned"]


def test_tokens_without_words_are_stock_tokens(clip):
    assert tokenize_with_vectors(clip, "a (sks:1.2) dog", {}) == clip.tokenize("a (sks:1.2) dog")
