"""ICO: every photo has contexts of its own, the subject's vectors are shared, and n = k = 0 is the manual prompt."""

from dataclasses import replace

import pytest
import torch
from tiny_unet import CONTEXT, TinyDenoiser, TinyTextEncoder, photos, same_bits, trainer, training_config, training_data

from comfyui_personalize.core.data.batch import SubjectRows
from comfyui_personalize.core.data.examples import ObjectName, View
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.token_vectors import TokenVectors
from comfyui_personalize.core.objectives import objectives_from_dicts
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.objectives.prior_preservation import PriorPreservation
from comfyui_personalize.core.store.runs import run_key
from comfyui_personalize.core.training.config import TrainingConfig

MANUAL = {"caption": "sks dog", "object_caption": "a sks dog"}
TEMPLATE = {"caption": "a photo of a sks dog", "object_caption": "a sks dog"}


def data(count=3, **changes):
    return training_data(tuple(replace(example, identifier="sks", **changes) for example in photos(count, **MANUAL)))


def config(objective=None, **others) -> TrainingConfig:
    return training_config(**{"objectives": (objective or LearnedContexts(),), "text_encoder_rate": 0.0} | others)


def finished(objective=None, used=None, **others):
    with trainer(config(objective, **others), used or data()) as run:
        list(run.steps())
        return run.state()[0], run.export(), list(run.losses)


def test_a_caption_is_prefix_identifier_noun_suffix():
    prepared = LearnedContexts().prepare(data(2))
    assert [example.caption for example in prepared.examples] == [
        "learnedprefix0 sks dog learnedsuffix0", "learnedprefix1 sks dog learnedsuffix1"]
    assert prepared.base_prompts == dict.fromkeys(
        (example.caption for example in prepared.examples), "sks dog")


def test_views_and_repeats_of_a_photo_share_its_contexts():
    flipped = View(latents=torch.zeros(4, 8, 8))
    used = LearnedContexts().prepare(data(2, more_views=(flipped,), repeats=3))
    assert len(LearnedContexts().token_vectors(used, 1e-3)) == 2 * 2 + 1


def test_several_objects_in_a_photo_stand_in_one_prompt():
    objects = tuple(ObjectName(identifier=name, class_noun=noun, caption="") for name, noun in
                    (("sks", "dog"), ("ohwx", "cat")))
    prepared = LearnedContexts(suffix=0).prepare(data(1, objects=objects, object_masks=torch.ones(2, 8, 8)))
    assert prepared.examples[0].caption == "learnedprefix0 sks dog and ohwx cat"
    words = LearnedContexts(suffix=0).token_vectors(prepared, 1e-3)
    assert [word.word for word in words] == ["learnedprefix0", "sks", "ohwx"]


@pytest.mark.parametrize(("n", "start"), [(1, "a"), (2, "of a"), (3, "photo of a"), (4, "a photo of a"),
                                          (6, "a photo of a")])
def test_a_prefix_starts_as_the_words_next_to_the_subject(n, start):
    words = LearnedContexts(prefix=n).token_vectors(data(1), 1e-3)
    assert words[0].start_text == start and words[0].count == n
    assert words[1].start_text == "." and words[2].start_text == "sks"


def rates_of(objective):
    with trainer(config(objective, learning_rate=1e-3), data(2)) as run:
        groups = run.updates.optimizer.param_groups
        learned = run._trainables["token_vectors"]
        assert isinstance(learned, TokenVectors)
        words = [word.word for word in learned.configs]
        return groups[0]["lr"], {word: group["lr"] for word, group in zip(words, groups[1:], strict=True)}


def test_contexts_learn_at_ten_times_the_runs_rate_and_the_shared_vectors_and_the_adapter_at_the_runs():
    adapter, words = rates_of(LearnedContexts(identifier_rate_factor=1.0))
    assert adapter == words.pop("sks") == 1e-3 and set(words.values()) == {1e-2} and len(words) == 4


def test_without_a_factor_of_their_own_the_shared_vectors_learn_as_the_contexts_do():
    assert set(rates_of(LearnedContexts())[1].values()) == {1e-2}


def test_a_config_from_before_the_later_fields_keeps_its_key_and_its_meaning():
    """Keys as the first version with learned contexts made them."""
    key = run_key(TrainingConfig(steps=9, objectives=(LearnedContexts(),)).key_fields())
    assert key == "52ed2ddec201b4b88ca81608a2446aacb054aa07b2e1c2e4f0639b182e86c88c"
    saved = {"kind": "learned_contexts", "prefix": 2, "suffix": 1, "identifier_vectors": 4, "start": "words",
             "std": 0.02, "rate_factor": 4.0}
    restored = objectives_from_dicts([saved])[0]
    assert restored.to_dict() == saved and rates_of(restored)[1]["sks"] == 4e-3
    assert run_key(TrainingConfig(steps=9, objectives=(restored,)).key_fields()) == (
        "b4cb4bf9d54440433f8a93a985733644c9297d24f44a69e3323fd6b5d79ed699")


def test_the_contexts_own_factor_and_no_factor_are_one_run_and_another_factor_is_another():
    assert LearnedContexts(identifier_rate_factor=10.0).to_dict() == LearnedContexts().to_dict()
    changes = ({"identifier_rate_factor": 1.0}, {"prefix_words": "a"}, {"suffix_words": "on"},
               {"identifier_words": "ktn pll ucd"})
    assert all(LearnedContexts(**change).to_dict() != LearnedContexts().to_dict() for change in changes)


def test_the_shared_vectors_start_from_one_rare_word_each():
    with trainer(config(LearnedContexts(identifier_vectors=3, identifier_words="ktn pll ucd")), data(2)) as run:
        start = run.export().token_vectors["sks"]["l"]
    assert torch.equal(start, TinyTextEncoder().token_rows("ktn pll ucd")["l"])


def test_one_text_for_two_subjects_is_refused_because_they_would_start_as_one():
    two = training_data(tuple(replace(example, identifier=name) for name in ("sks", "ohwx")
                              for example in photos(1, **MANUAL)))
    with pytest.raises(InputError, match="identifier_words: got one text for 2 subjects"):
        LearnedContexts(identifier_words="ktn pll").prepare(two)


def test_contexts_start_from_the_words_that_are_given():
    words = LearnedContexts(prefix=2, suffix=2, prefix_words="the a", suffix_words="on a night")
    prefix, suffix, _ = words.token_vectors(data(1), 1e-3)
    assert (prefix.start_text, suffix.start_text) == ("the a", "on a") and words.start_words == ("the", "a", "on")
    assert LearnedContexts(start="random").start_words == LearnedContexts(prefix=0, suffix=0).start_words == ()


def test_without_vectors_it_is_the_manual_prompt():
    """n = k = m = 0 trains on '{V} {noun}' bit for bit."""
    empty = LearnedContexts(prefix=0, suffix=0, identifier_vectors=0)
    state, _, losses = finished(empty, data(**TEMPLATE))
    with trainer(training_config(), data()) as plain:
        list(plain.steps())
        assert same_bits(state, plain.state()[0]) and losses == plain.losses


def test_where_no_word_is_a_placeholder_the_base_network_reads_the_caption_itself():
    assert LearnedContexts(prefix=0, suffix=0).prepare(data(2)).base_prompts == {}


def test_only_the_identifier_is_exported_for_use_and_contexts_for_inspection():
    result = finished(used=data(2))[1]
    assert result.token_vectors.keys() == {"sks"}
    assert result.contexts.keys() == {"learnedprefix0", "learnedsuffix0", "learnedprefix1", "learnedsuffix1"}
    assert result.contexts["learnedprefix0"]["l"].shape == (2, CONTEXT)
    assert result.token_vectors["sks"]["l"].shape == (2, CONTEXT)


def test_a_photos_loss_reaches_its_own_contexts_the_shared_vectors_and_no_other():
    with trainer(config(steps=1, batch=1, trains_denoiser=False), data(2)) as run:
        start = run.export()
        list(run.steps())
        end = run.export()
        shown = [index for index, seen in enumerate(run.exposure().photos) if seen]
    moved = {word for word in start.contexts if not torch.equal(start.contexts[word]["l"], end.contexts[word]["l"])}
    assert moved == {f"learnedprefix{shown[0]}", f"learnedsuffix{shown[0]}"} and len(shown) == 1
    assert not torch.equal(start.token_vectors["sks"]["l"], end.token_vectors["sks"]["l"])


def test_a_random_start_is_small_and_differs_by_photo():
    with trainer(config(LearnedContexts(start="random", prefix=8)), data(2)) as run:
        contexts = run.export().contexts
    first, second = contexts["learnedprefix0"]["l"], contexts["learnedprefix1"]["l"]
    assert float(first.std()) == pytest.approx(0.02, rel=0.3) and not torch.equal(first, second)


def test_class_images_keep_their_plain_prompt():
    encoder = TinyTextEncoder()
    used = replace(data(2), class_latents=data().class_latents, class_prompts={"dog": "a dog"})
    settings = training_config(objectives=(LearnedContexts(), PriorPreservation()), steps=3)
    with trainer(settings, used, text_encoder=encoder) as run:
        list(run.steps())
    assert encoder.encoded["a dog"] == 1


def test_the_base_network_never_reads_a_placeholder():
    encoder = TinyTextEncoder()
    with trainer(config(), data(2), text_encoder=encoder) as run:
        placeholders = {prompt for prompt in encoder.encoded if "learned" in prompt}
        base = run._text.base_rows(["learnedprefix0 sks dog learnedsuffix0"])[0].context
    assert not placeholders and torch.equal(base, TinyTextEncoder().encode(["sks dog"])[0].context)


def test_the_gradient_of_a_batch_is_the_mean_of_its_photos_own():
    """d/dc of the mean over i of ||eps_i - eps_theta(z_i, t_i, [p_i][V][noun][s_i])||², row by row."""
    encoder, denoiser = TinyTextEncoder(), TinyDenoiser()
    settings = config(steps=1, batch=2, trains_denoiser=False, max_grad_norm=0)
    with trainer(settings, data(2), text_encoder=encoder, denoiser=denoiser) as run:
        rows, vectors = run._draw_rows(0)["subject"], run._text.vectors
        assert isinstance(rows, SubjectRows)
        losses = []
        for row in range(2):
            latents, noise, index = (part[row:row + 1] for part in (rows.latents, rows.noise, rows.index))
            photo = rows.examples[row]
            words = [f"learnedprefix{photo}", "sks", f"learnedsuffix{photo}"]
            prompt = f"{words[0]} sks dog {words[2]}"
            conditioning = encoder.encode([prompt], {word: vectors[word] for word in words})[0]
            prediction = denoiser(denoiser.schedule.add_noise(latents, noise, index), index, [conditioning])
            losses.append((prediction - noise).square().mean())
        parameters = run._trainables["token_vectors"].parameters()
        expected = torch.autograd.grad(torch.stack(losses).mean(), parameters)
        list(run.steps())
        assert len(expected) == 5
        for parameter, gradient in zip(parameters, expected, strict=True):
            assert float(gradient.abs().sum()) > 0 and torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_equal_settings_give_equal_bits_and_a_resumed_run_too():
    whole = finished(steps=4)[0]
    assert same_bits(whole, finished(steps=4)[0])
    with trainer(config(steps=2), data()) as run:
        list(run.steps())
        saved = run.state()
    with trainer(config(steps=4), data()) as run:
        run.load_state(*saved)
        list(run.steps())
        assert same_bits(run.state()[0], whole)


def test_a_config_comes_back_from_its_metadata():
    original = config(LearnedContexts(prefix=3, suffix=0, identifier_vectors=1, start="random", rate_factor=2.0,
                                      identifier_rate_factor=1.0, prefix_words="a", identifier_words="ktn"))
    assert TrainingConfig.from_dict(original.to_dict()) == original


def test_captions_of_photos_are_refused():
    with pytest.raises(InputError, match="learned contexts, and 2 photos with captions of their own"):
        LearnedContexts().prepare(data(2, has_own_caption=True))


def test_photos_without_an_identifier_are_refused():
    with pytest.raises(InputError, match="identifier: got an empty text"):
        LearnedContexts().prepare(training_data())


@pytest.mark.parametrize(("changes", "message"), [
    ({"prefix": 33}, "prefix: got 33, expected 0 to 32 vectors"), ({"suffix": -1}, "suffix: got -1"),
    ({"identifier_vectors": 9}, "identifier_vectors: got 9, expected 0 to 8"),
    ({"start": "zero"}, "start: got 'zero'"), ({"rate_factor": 0}, "rate_factor: got 0"), ({"std": 0}, "std: got 0"),
    ({"identifier_rate_factor": 0}, "identifier_rate_factor: got 0"),
    ({"prefix_words": " "}, "prefix_words: got an empty text"),
    ({"suffix_words": ""}, "suffix_words: got an empty text"),
    ({"identifier_words": "embedding:cat"}, "identifier_words: got 'embedding:cat', expected plain words")])
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        LearnedContexts(**changes)
