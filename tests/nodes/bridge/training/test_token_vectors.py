"""Words learned by the trainer node: in its CLIP, its previews, the run store, saved files and stock nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import comfy.sd
import folder_paths
import pytest
import torch
from families import family_models
from run_node import run_node
from safetensors.torch import load_file
from tiny_model import tiny_models
from trainer_rig import CancelAt, Untouched, equal, photos, sample, subjects, train, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.objectives import MaskedLoss, PriorPreservation
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.nodes.bridge.dci.dual_prompt import CONDITIONING_KEY
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain, PreviewSettings
from comfyui_personalize.nodes.bridge.text.encoder import ComfyTextEncoder
from comfyui_personalize.nodes.bridge.training.plan import make_plan
from comfyui_personalize.nodes.bridge.training.request import Request
from comfyui_personalize.nodes.bridge.training.token_vectors import vectors_of_subjects
from comfyui_personalize.nodes.dci_conditioning import DCIConditioning
from comfyui_personalize.nodes.learned_contexts import LearnedContextsNode
from comfyui_personalize.nodes.load_personalization import LoadPersonalization
from comfyui_personalize.nodes.save_personalization import SavePersonalization
from comfyui_personalize.nodes.token_vectors import TokenVectors

pytestmark = pytest.mark.usefixtures("inference_mode")
ALONE = TrainingOptions(trains_denoiser=False, save_every=2)
Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch) -> Path:
    """An empty run store, LoRA folder and embeddings folder."""
    runs = use_store(tmp_path, monkeypatch)
    (tmp_path / "embeddings").mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings",
                        ([str(tmp_path / "embeddings")], folder_paths.supported_pt_extensions))
    folder_paths.filename_list_cache.pop("embeddings", None)
    return runs


@pytest.fixture
def models(tmp_path):
    """The tiny model; its tokenizer looks for files where this test keeps them."""
    found = tiny_models()
    found[1].tokenizer.clip_l.embedding_directory = [str(tmp_path / "embeddings")]
    return found


def words(**changes) -> tuple:
    inputs = {"identifier": "", "vectors": 2, "start": "word", "start_text": "{noun}", "learning_rate": 0.05,
              "stop_at": 1.0, "norm": "free", "std": 0.02}
    return run_node(TokenVectors, **inputs | changes)[0]


def invert(models, **changes):
    """A Textual Inversion."""
    return train(models, **{"options": ALONE, "token_vectors": words()} | changes)


def contexts(**changes) -> ObjectiveChain:
    inputs = {"prefix": 2, "suffix": 1, "identifier_vectors": 2, "start": "words", "rate_factor": 10.0, "std": 0.02}
    return run_node(LearnedContextsNode, **inputs | changes)[0]


def request_of(models, token_vectors=(), objective=None, **changes) -> Request:
    chain = objective or ObjectiveChain()
    configs, starts = vectors_of_subjects(token_vectors, subjects())
    config = TrainingConfig(steps=1, resolution=64, objectives=chain.objectives, token_vectors=configs)
    return Request(**{"model": models[0], "clip": models[1], "vae": models[2], "subjects": subjects(),
                      "class_images": chain.class_images, "config": config, "run_name": "test",
                      "starts": starts} | changes)


def key_of(models, **changes) -> str:
    return make_plan(request_of(models, **changes), ()).key


def embedding(outputs) -> torch.Tensor:
    return outputs[5].token_vectors["sks"]["l"]


# Learned contexts


def test_a_prompt_without_the_later_widgets_means_what_it_meant_before():
    """V at the contexts' rate, contexts from 'a photo of a' and '.': the key of such a run stays as it was."""
    assert contexts().objectives == (LearnedContexts(),)
    assert contexts(identifier_rate_factor=1.0).objectives != contexts().objectives


def test_a_new_node_has_the_authors_rates():
    widgets = {widget.id: widget for widget in LearnedContextsNode.define_schema().inputs}
    assert (widgets["rate_factor"].default, widgets["identifier_rate_factor"].default) == (10.0, 1.0)
    later = ("identifier_rate_factor", "prefix_words", "suffix_words", "identifier_words")
    assert all(widgets[name].optional for name in later)
    assert tuple(widgets)[-5:-1] == later  # behind the older ones: saved widgets are read by their place


# Training


def test_textual_inversion_learns_vectors_and_nothing_else(models):
    with Untouched(models):
        outputs = invert(models)
    assert outputs[2] == {} and embedding(outputs).shape == (2, 64) and len(outputs[3]["loss"]) == 3
    start = models[1].cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    dog = models[1].tokenize("dog")["l"][0][1][0]
    assert not torch.equal(embedding(outputs)[0], start[dog].float())
    assert outputs[7] == "embedding:sks"


def test_the_clip_output_reads_the_word_at_once_and_the_loaded_clip_does_not(models):
    model, clip = invert(models)[:2]
    assert not torch.equal(sample(model, clip, "a embedding:sks dog"), sample(model, clip, "a dog dog dog"))
    assert torch.equal(sample(model, clip, "a dog"), sample(*models[:2], "a dog"))
    assert not any(torch.is_tensor(token) for token, _ in models[1].tokenize("embedding:sks")["l"][0])


def test_vectors_train_beside_an_adapter(models):
    outputs = train(models, token_vectors=words())
    alone = train(models, run_name="other")
    assert outputs[2] and outputs[2].keys() == alone[2].keys() and not equal(outputs[2], alone[2])


def test_without_token_vectors_the_identifier_itself_is_handed_on(models):
    assert train(models)[7] == "sks"


def test_each_subject_has_words_of_its_own(models):
    pair = (*subjects(), *subjects(identifier="ohwx", photos=photos(1, seed=3)))
    outputs = invert(models, subject=pair)
    assert outputs[5].token_vectors.keys() == {"sks", "ohwx"} and outputs[7] == "embedding:sks, embedding:ohwx"
    one = invert(models, subject=pair, token_vectors=words(identifier="ohwx"))
    assert one[5].token_vectors.keys() == {"ohwx"} and one[7] == "sks, embedding:ohwx"


def test_previews_show_the_word_as_it_is_learned(models):
    preview = PreviewSettings(prompt="a sks dog", steps=2, every=2)
    shown = invert(models, preview=preview)[4]
    named = invert(models, preview=replace(preview, prompt="a embedding:sks dog"), run_name="named")[4]
    other = invert(models, preview=replace(preview, prompt="a dog"), run_name="other")[4]
    assert len(shown) == 2 and torch.equal(shown[1:], named[-1:]) and not torch.equal(shown[1], other[-1])
    assert not torch.equal(shown[0], shown[1])


def test_ico_learns_contexts_for_each_photo_beside_an_adapter(models):
    with Untouched(models):
        outputs = train(models, objective=contexts())
    result = outputs[5]
    assert set(result.contexts) == {f"learned{part}{photo}" for part in ("prefix", "suffix") for photo in (0, 1)}
    assert result.token_vectors.keys() == {"sks"} and outputs[7] == "embedding:sks" and outputs[2]


def test_ico_on_a_dora_with_masks_for_two_subjects_and_prior_preservation(models):
    pair = (*subjects(photos=photos(masked=True)),
            *subjects(identifier="ohwx", class_noun="cat", photos=photos(1, seed=3, masked=True)))
    pools = tuple(ClassImages(class_noun=noun, prompt=f"a {noun}", latents=torch.randn(2, 4, 8, 8), key=noun, size=64)
                  for noun in ("dog", "cat"))
    chain = contexts().extended(MaskedLoss(), PriorPreservation(), class_images=pools)
    with Untouched(models):
        outputs = train(models, subject=pair, objective=chain, batch=2,
                        options=TrainingOptions(adapter=AdapterConfig(kind="dora", rank=4, alpha=4)))
    assert len(outputs[5].contexts) == 6 and outputs[7] == "embedding:sks, embedding:ohwx"
    assert any("dora_scale" in name for name in outputs[2])


def test_ico_without_vectors_is_the_manual_prompt(models):
    plain = train(models, subject=subjects(caption_template="{V} {noun}"))
    empty = train(models, objective=contexts(prefix=0, suffix=0, identifier_vectors=0), run_name="ico")
    assert equal(plain[2], empty[2]) and plain[3] == empty[3]


# The run store


def test_an_equal_run_is_loaded_with_its_words(models):
    first, again = invert(models), invert(models)
    assert "nothing to train" in again[6] and torch.equal(embedding(first), embedding(again))
    assert torch.equal(sample(*first[:2], "a embedding:sks"), sample(*again[:2], "a embedding:sks"))


def test_lost_words_are_trained_again_to_the_same_bits(models, store):
    first = train(models, objective=contexts())
    next(store.glob("*/words-*.safetensors")).write_bytes(b"damaged")
    again = train(models, objective=contexts())
    assert "nothing to train" not in again[6] and torch.equal(embedding(first), embedding(again))


@pytest.mark.parametrize("objective", [None, contexts])
def test_a_cancelled_run_goes_on_to_the_same_bits(models, tmp_path, monkeypatch, objective):
    inputs = {"steps": 5, "token_vectors": words()} if objective is None else {"steps": 5, "objective": objective()}
    whole = train(models, **inputs)
    use_store(tmp_path / "other", monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        CancelAt(patch, 3)
        train(models, **inputs)
    resumed = train(models, **inputs)
    assert "resumed from step" in resumed[6] and torch.equal(embedding(resumed), embedding(whole))
    assert equal(resumed[2], whole[2]) and resumed[3] == whole[3]


def test_every_setting_is_in_the_key(models):
    changes = ({}, {"vectors": 3}, {"start_text": "cat"}, {"learning_rate": 0.01}, {"norm": "fixed"}, {"stop_at": 0.5},
               {"start": "random"}, {"start": "random", "std": 0.1})
    keys = {key_of(models, token_vectors=words(**change)) for change in changes}
    ico = ({}, {"prefix": 3}, {"suffix": 0}, {"identifier_vectors": 1}, {"start": "random"}, {"rate_factor": 1.0})
    keys |= {key_of(models, objective=contexts(**change)) for change in ico}
    assert len(keys) == len(changes) + len(ico)


def test_given_vectors_and_files_are_in_the_key(models, store, tmp_path):
    from safetensors.torch import save_file

    for value in (1.0, 2.0):
        save_file({"clip_l": torch.full((1, 64), value)}, tmp_path / "embeddings" / "earlier.safetensors")
        outputs = invert(models, steps=1, token_vectors=words(start_text="embedding:earlier", learning_rate=1e-7))
        assert torch.allclose(embedding(outputs), torch.full((2, 64), value), atol=1e-3)
    assert len(list(store.glob("test*"))) == 2


# Files


def save(personalization, name: str = "personalize/dog") -> Path:
    return Path(run_node(SavePersonalization, personalization=personalization, name=name)[0])


def load(models, name: str = "personalize/dog.safetensors"):
    return run_node(LoadPersonalization, name=name, model=models[0], clip=models[1], strength_model=1.0,
                    strength_clip=1.0)


def test_a_saved_embedding_reads_the_same_in_stock_prompts(models, tmp_path):
    outputs = invert(models)
    save(outputs[5])
    assert load_file(tmp_path / "embeddings" / "personalize" / "dog.safetensors").keys() == {"clip_l"}
    stock = sample(*models[:2], "a embedding:personalize/dog dog")
    assert torch.allclose(stock, sample(*outputs[:2], "a embedding:sks dog"), atol=1e-5)


def test_loading_brings_word_and_adapter_back(models):
    outputs = train(models, token_vectors=words())
    save(outputs[5])
    model, clip, identifier, noun, report = load(models)
    assert (identifier, noun) == ("embedding:personalize/dog", "dog") and "Warning" not in report
    expected = sample(*outputs[:2], "a embedding:sks dog")
    assert torch.equal(sample(model, clip, f"a {identifier} dog"), expected)
    assert torch.equal(sample(model, clip, "a embedding:sks dog"), expected)


def test_a_textual_inversion_alone_is_loaded_too(models):
    outputs = invert(models)
    save(outputs[5])
    model, clip, identifier, *_ = load(models)
    assert torch.equal(sample(model, clip, f"a {identifier}"), sample(*outputs[:2], "a embedding:sks"))


def test_two_subjects_are_two_embedding_files(models, tmp_path):
    pair = (*subjects(), *subjects(identifier="xq zt", photos=photos(1, seed=3)))
    save(invert(models, subject=pair)[5])
    found = {path.name for path in (tmp_path / "embeddings" / "personalize").iterdir()}
    assert found == {"dog_sks.safetensors", "dog_xq_zt.safetensors"}
    assert load(models)[2] == "embedding:personalize/dog_sks, embedding:personalize/dog_xq_zt"


def test_contexts_lie_in_a_file_that_no_loader_lists(models, tmp_path):
    outputs = train(models, objective=contexts())
    path = save(outputs[5])
    sidecar = path.with_suffix(".contexts")
    assert load_file(sidecar).keys() == {f"learned{part}{photo}.clip_l" for part in ("prefix", "suffix")
                                         for photo in (0, 1)}
    folder_paths.filename_list_cache.pop("loras", None)
    assert folder_paths.get_filename_list("loras") == ["personalize/dog.safetensors"]


def test_other_content_gets_one_suffix_for_all_its_files(models, tmp_path):
    first, second = invert(models), invert(models, steps=2)
    assert save(first[5]) == save(first[5])
    assert save(second[5]).stem == "dog-2"
    assert (tmp_path / "embeddings" / "personalize" / "dog-2.safetensors").exists()
    assert load(models, "personalize/dog-2.safetensors")[2] == "embedding:personalize/dog-2"


def test_a_foreign_embedding_is_never_replaced(models, tmp_path):
    foreign = tmp_path / "embeddings" / "dog.safetensors"
    foreign.write_bytes(b"another program's")
    assert save(invert(models)[5], "dog").stem == "dog-2" and foreign.read_bytes() == b"another program's"


def test_a_missing_embedding_is_named(models, tmp_path):
    save(invert(models)[5])
    (tmp_path / "embeddings" / "personalize" / "dog.safetensors").unlink()
    with pytest.raises(InputError, match="embedding: got no file personalize/dog.safetensors"):
        load(models)


def test_both_text_encoders_of_sdxl_learn_and_are_saved(tmp_path):
    models = family_models("sdxl")
    outputs = train(models, steps=2, options=ALONE, objective=contexts(suffix=0, identifier_vectors=0),
                    token_vectors=words())
    found = outputs[5].token_vectors["sks"]
    start = ComfyTextEncoder(models[1]).token_rows("dog")
    assert found.keys() == {"l", "g"} and not any(torch.equal(found[kind][:1], start[kind]) for kind in found)
    save(outputs[5])
    saved = load_file(tmp_path / "embeddings" / "personalize" / "dog.safetensors")
    assert saved.keys() == {"clip_l", "clip_g"} and torch.equal(saved["clip_g"], found["g"])
    assert outputs[5].contexts["learnedprefix0"].keys() == {"l", "g"}


def test_diffusers_reads_the_embedding_file(models, tmp_path):
    from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts

    outputs = invert(models)
    save(outputs[5])
    (state,) = load_textual_inversion_state_dicts([str(tmp_path / "embeddings" / "personalize" / "dog.safetensors")])
    assert len(state) == 1 and torch.equal(next(iter(state.values())), embedding(outputs))


def test_dci_finds_the_learned_word_in_its_prompt(models):
    clip, identifier = invert(models)[1], "embedding:sks"
    conditioning = run_node(DCIConditioning, **{
        **{entry.id: entry.default for entry in DCIConditioning.define_schema().inputs
           if getattr(entry, "default", None) is not None},
        "model": models[0], "clip": clip, "prompt": f"a photo of {identifier} dog on the beach",
        "identifier": identifier, "class_noun": "dog", "auxiliary_noun": "cat"})[1]
    dual = conditioning[0][1][CONDITIONING_KEY]
    assert dual.concept.counted == (4, 5, 6) and len(dual.auxiliary.content) == 7


# Refusals


@pytest.mark.parametrize(("inputs", "message"), [
    (lambda: {"token_vectors": words(identifier="ohwx")}, "identifier: got 'ohwx', expected one of sks"),
    (lambda: {"token_vectors": (*words(), *words())}, "'sks' learned twice"),
    (lambda: {"token_vectors": words(), "objective": contexts()}, "'sks' learned twice"),
    (lambda: {"objective": contexts(prefix=32, suffix=32, identifier_vectors=8),
              "subject": subjects(class_noun="very " * 6 + "big dog")}, "more than one prompt of 77 tokens"),
    (lambda: {"options": ALONE}, "nothing that trains"),
])
def test_what_cannot_be_learned_is_refused(models, inputs, message):
    with pytest.raises(InputError, match=message):
        train(models, **inputs())


def test_text_encoders_without_known_gradients_are_refused(models, monkeypatch):
    monkeypatch.setattr(models[1].tokenizer, "tokenize_with_weights", lambda *_, **__: {"t5xxl": [[(1, 1.0)]]})
    with pytest.raises(InputError, match="token vectors: got a CLIP with the encoders t5xxl"):
        invert(models)
