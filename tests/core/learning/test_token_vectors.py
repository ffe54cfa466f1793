"""Learned vectors: they start as asked, learn alone or beside an adapter, stop and keep their norm as asked."""

import pytest
import torch
from tiny_unet import PROMPTS, TinyDenoiser, TinyTextEncoder, photos, same_bits, trainer, training_config, training_data

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig, reads, replace_words, start_vectors
from comfyui_personalize.core.training.config import TrainingConfig


def learned(**changes) -> TokenVectorsConfig:
    return TokenVectorsConfig(**{"word": "sks", "start_text": "dog"} | changes)


def config(words=None, **others) -> TrainingConfig:
    plain = training_config(**others)
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    return TrainingConfig(**fields | {"token_vectors": (learned(),) if words is None else words})


def vectors_after(words=None, **others):
    with trainer(config(words, **others)) as run:
        list(run.steps())
        return run.export()


def test_a_word_starts_as_the_embeddings_of_its_text_repeated_where_it_has_fewer():
    encoder = TinyTextEncoder()
    found = start_vectors(learned(start_text="big dog", count=3), 0, encoder.widths, encoder.token_rows)["l"]
    rows = encoder.token_rows("big dog")["l"]
    assert torch.equal(found, rows[[0, 1, 0]])


def test_a_random_start_has_the_asked_deviation_and_is_a_function_of_seed_and_word():
    draw = [start_vectors(learned(start="random", std=0.5, count=8, word=word), seed, {"l": 512}, lambda _: {})["l"]
            for word, seed in (("sks", 0), ("sks", 0), ("ohwx", 0), ("sks", 1))]
    assert draw[0].std() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2]) and not torch.equal(draw[0], draw[3])


def test_textual_inversion_trains_the_vectors_alone():
    denoiser = TinyDenoiser()
    with trainer(config(trains_denoiser=False), denoiser=denoiser) as run:
        start = run.export().token_vectors["sks"]["l"]
        list(run.steps())
        result = run.export()
        assert len(run.updates.parameters()) == 1
    assert result.adapter == {} and not torch.equal(result.token_vectors["sks"]["l"], start)
    assert all(parameter.grad is None for parameter in denoiser.module.parameters())


def test_vectors_beside_an_adapter_learn_at_their_own_rate():
    with trainer(config((learned(learning_rate=5e-2),), learning_rate=1e-3)) as run:
        list(run.steps())
        assert [group["lr"] for group in run.updates.optimizer.param_groups] == [1e-3, 5e-2]
        assert run.export().adapter


def test_pivotal_tuning_stops_the_vectors_at_a_fraction_of_the_run():
    half, more = (vectors_after((learned(stop_at=stop),), steps=steps).token_vectors["sks"]["l"]
                  for stop, steps in ((0.5, 4), (0.25, 8)))
    assert torch.equal(half, more)


def test_a_fixed_norm_is_kept():
    start = TinyTextEncoder().token_rows("dog")["l"].norm()
    free, fixed = (vectors_after((learned(norm=norm, learning_rate=0.1),)).token_vectors["sks"]["l"].norm()
                   for norm in ("free", "fixed"))
    assert fixed == pytest.approx(float(start), rel=1e-5) and abs(free - start) > 0.01 * start


def test_given_vectors_are_where_training_starts():
    given = torch.randn(2, 16)
    with trainer(config((learned(start="given", count=2),)), starts={"sks": {"l": given}}) as run:
        assert torch.equal(run.export().token_vectors["sks"]["l"], given)


def test_only_prompts_with_the_word_are_encoded_again():
    encoder = TinyTextEncoder()
    data = training_data((*photos(1), *photos(1, "cat", caption="a cat", object_caption="a cat")))
    with trainer(config(batch=2, steps=3), data, text_encoder=encoder) as run:
        list(run.steps())
    assert encoder.encoded["a cat"] == 1 and encoder.encoded[PROMPTS["caption"]] == 4


def test_context_words_are_exported_apart():
    words = (learned(), learned(word="photo", is_context=True))
    result = vectors_after(words)
    assert result.token_vectors.keys() == {"sks"} and result.contexts.keys() == {"photo"}


def test_a_resumed_run_ends_in_the_same_bits():
    with trainer(config(steps=4)) as run:
        list(run.steps())
        whole = run.state()[0]
    with trainer(config(steps=2)) as run:
        list(run.steps())
        saved = run.state()
    with trainer(config(steps=4)) as run:
        run.load_state(*saved)
        list(run.steps())
        assert same_bits(run.state()[0], whole)


def test_a_config_comes_back_from_its_metadata():
    original = config((learned(count=3, stop_at=0.5), learned(word="ohwx", start="random")))
    assert TrainingConfig.from_dict(original.to_dict()) == original


@pytest.mark.parametrize(("changes", "message"), [
    ({"count": 9}, "vectors: got 9, expected 1 to 8"),
    ({"start_text": " "}, "start_text: got an empty text"),
    ({"stop_at": 0}, "stop_at: got 0"),
    ({"start": "zero"}, "start: got 'zero', expected one of word, random, given"),
])
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        learned(**changes)


def test_a_word_learned_twice_is_refused():
    with pytest.raises(InputError, match="'sks' learned twice"), trainer(config((learned(), learned()))):
        pass


def test_a_run_in_which_nothing_trains_is_refused():
    with pytest.raises(InputError, match="nothing that trains"), trainer(training_config(trains_denoiser=False)):
        pass


def test_a_word_is_replaced_whole_in_any_case_and_beside_any_punctuation():
    for text in ("a {}.", "{};", "{}'s", '"{}"', "x,{}", "({}:1.2)", "「{}」", "{}\n", "{}-like"):
        assert replace_words(text.format("Zkz"), ["zkz"], lambda _: "*") == text.format("*")
        assert reads(text.format("ZKZ"), "zkz")
    for text in ("zkzz", "azkz", "zkz2", "zkz_", "zkz犬"):
        assert replace_words(text, ["zkz"], lambda _: "*") == text and not reads(text, "zkz")


def test_a_files_name_is_no_word():
    assert not reads("a embedding:zkz dog", "zkz") and not reads("a EMBEDDING:zkz dog", "zkz")
    assert replace_words("embedding:zkz, zkz", ["zkz"], lambda _: "*") == "embedding:zkz, *"
    assert reads("embedding:other zkz", "zkz") and reads("a myword:zkz", "zkz")


def test_of_two_words_the_longer_one_is_replaced_whatever_their_case_and_space():
    assert replace_words("XQ  zt and xq", ["xq", "xq zt"], lambda word: f"<{word}>") == "<xq zt> and <xq>"
    assert replace_words("Straße İ", ["STRASSE", "i"], lambda word: f"<{word}>") == "Straße <i>"
