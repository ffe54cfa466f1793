"""Prototypes and class-characterizing regularisation with the pocket model's own image-text encoder."""

from __future__ import annotations

import folder_paths
import nodes as stock
import pytest
import torch
from run_node import run_node
from tiny_model import tiny_models
from trainer_rig import equal, photos, subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.text.encoder import ComfyTextEncoder
from comfyui_personalize.nodes.class_characterizing import ClassCharacterizingNode
from comfyui_personalize.nodes.image_text_encoder import ImageTextEncoder
from comfyui_personalize.nodes.prototypical_embedding import PrototypicalEmbedding
from comfyui_personalize.nodes.token_vectors import TokenVectors
from comfyui_personalize.pocket import image_text as files
from comfyui_personalize.pocket.comfyui.registration import register_pocket

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
if not files.IMAGE_TEXT_FILE.exists() or not files.CHECKPOINT.exists():
    pytest.skip("lacks the pocket model's files", allow_module_level=True)
ALONE = TrainingOptions(trains_denoiser=False)


@pytest.fixture(scope="module")
def pocket():
    """MODEL, CLIP and VAE of the pocket checkpoint."""
    register_pocket()
    with torch.inference_mode():
        return stock.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")


@pytest.fixture(scope="module")
def encoder(pocket):
    with torch.inference_mode():
        vision = stock.CLIPVisionLoader().load_clip("pocket_clip.safetensors")[0]
        return run_node(ImageTextEncoder, clip_vision=vision, clip=pocket[1], path="")[0]


def prototype(encoder, clip, subject=None, **changes):
    inputs = {"subject": subject or subjects(photos=photos(1, masked=True)), "image_text": encoder, "clip": clip,
              "vectors": 4, "learning_rate": 1e-3, "stop_at": 1.0, "fit_steps": 20, "fit_rate": 5e-3}
    return run_node(PrototypicalEmbedding, **inputs | changes)


def regularised(**changes):
    return run_node(ClassCharacterizingNode, **{"alpha": 1.0, "probability": 1.0} | changes)[0]


def words(**changes):
    inputs = {"identifier": "", "vectors": 2, "start": "word", "start_text": "cat", "learning_rate": 0.01,
              "stop_at": 1.0, "norm": "free", "std": 0.02}
    return run_node(TokenVectors, **inputs | changes)[0]


def test_a_prototype_comes_closer_and_the_report_says_by_how_much(encoder, pocket):
    (settings,), report = prototype(encoder, pocket[1])
    before, after = (float(report.split(f" {word}")[0].split()[-1]) for word in ("before", "after"))
    assert after > before and settings.vectors["l"].shape == (4, 128) and settings.identifier == "sks"


def test_a_prototype_is_where_training_starts(encoder, pocket):
    chain = prototype(encoder, pocket[1], learning_rate=1e-7)[0]
    outputs = train(pocket, token_vectors=chain, options=ALONE, steps=1)
    assert torch.allclose(outputs[5].token_vectors["sks"]["l"], chain[0].vectors["l"], atol=1e-5)


def test_masks_and_settings_change_the_prototype_and_the_runs_key(encoder, pocket):
    first, plain, longer = (prototype(encoder, pocket[1], **changes)[0][0] for changes in (
        {}, {"subject": subjects(photos=photos(1))}, {"fit_steps": 21}))
    assert len({found.config.digest for found in (first, plain, longer)}) == 3
    assert prototype(encoder, pocket[1])[0][0].config.digest == first.config.digest


def test_each_subject_has_a_prototype(encoder, pocket):
    pair = (*subjects(photos=photos(1)), *subjects(identifier="ohwx", class_noun="cat", photos=photos(1, seed=2)))
    chain, report = prototype(encoder, pocket[1], pair, fit_steps=2)
    assert [settings.identifier for settings in chain] == ["sks", "ohwx"] and "ohwx cat" in report


def test_an_encoder_of_another_token_table_is_refused(encoder):
    with pytest.raises(InputError, match="image_text: got an encoder with a token table of width 128"):
        prototype(encoder, tiny_models()[1])


def test_a_subject_without_a_class_noun_is_refused(encoder, pocket):
    with pytest.raises(InputError, match="class_noun: got an empty text"):
        prototype(encoder, pocket[1], subjects(class_noun="", photos=photos(1)))


def test_the_term_pulls_the_words_towards_the_class(encoder, pocket):
    def cosine(objective):
        outputs = train(pocket, token_vectors=words(), options=ALONE, steps=4, objective=objective, image_text=encoder)
        with torch.inference_mode(False), torch.no_grad():
            vectors = outputs[5].token_vectors["sks"]["l"].clone()
            texts = encoder.embed_tokens([[*vectors, *encoder.tokenize("dog")], encoder.tokenize("dog")])
        return float(texts[0] @ texts[1])

    assert cosine(regularised()) > cosine(regularised(alpha=0.0))
    assert cosine(regularised(alpha=0.0)) == cosine(None)


def test_the_term_reaches_the_text_encoders_adapter_too(encoder, pocket):
    options = TrainingOptions(text_encoder_rate=1e-3, max_grad_norm=0.0)
    loras = [train(pocket, options=options, steps=1, objective=objective, image_text=encoder)[2]
             for objective in (regularised(alpha=1000.0), regularised(alpha=0.0))]
    text = [{name: tensor for name, tensor in lora.items() if name.startswith("lora_te")} for lora in loras]
    unet = [{name: tensor for name, tensor in lora.items() if name.startswith("lora_unet")} for lora in loras]
    assert text[0] and not equal(*text) and equal(*unet)


@pytest.mark.parametrize(("inputs", "message"), [
    (lambda encoder: {"objective": regularised()}, "image_text: got nothing"),
    (lambda encoder: {"objective": regularised(), "image_text": encoder}, "a frozen identifier and text encoder"),
])
def test_a_term_that_would_do_nothing_is_refused(encoder, pocket, inputs, message):
    with pytest.raises(InputError, match=message):
        train(pocket, **inputs(encoder))


def test_a_second_clip_with_projection_does_not_reach_the_trained_one(encoder, pocket):
    other = stock.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")
    with pytest.raises(InputError, match="a frozen identifier and text encoder"):
        train(other, objective=regularised(), image_text=encoder, options=TrainingOptions(text_encoder_rate=1e-3))


def test_the_table_of_the_clip_is_the_encoders(encoder, pocket):
    rows = ComfyTextEncoder(pocket[1]).token_rows("dog")["l"]
    assert torch.allclose(rows, encoder.token_vectors("dog"), atol=1e-3)
    assert folder_paths.get_filename_list("clip_vision")
