"""DCI on SDXL's structure: two text encoders, and pooled texts that differ between the branches."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_base
import comfy.model_patcher
import pytest
import torch
from comfy import sdxl_clip, supported_models
from dci_rig import counted_rows, empty_latent, ksample, steps_in_window
from tiny_model import UNET_SHAPE

from comfyui_personalize.core.dci.config import DCIConfig
from comfyui_personalize.core.dci.subjects import DCISubject, SubjectPrompt
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.dual_branch import patch_dual_branch
from comfyui_personalize.nodes.bridge.dci.dual_prompt import CONDITIONING_KEY, DualPrompt
from comfyui_personalize.nodes.bridge.text.token_positions import locate_branches

POOLED, WIDTH = 8, 64
DOG = DCISubject(identifier="sks", class_noun="dog", auxiliary_noun="cat")
SUBJECT = SubjectPrompt(prompt="wow! a sks dog at sea", subjects=(DOG,))


@pytest.fixture(scope="module")
def clip():
    """What the node needs of an SDXL CLIP before it encodes."""
    tokenizer = sdxl_clip.SDXLTokenizer()
    return SimpleNamespace(tokenize=tokenizer.tokenize_with_weights, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def model():
    shape = {**UNET_SHAPE, "num_classes": "sequential", "adm_in_channels": POOLED + 6 * 256, "dtype": torch.float32,
             "use_linear_in_transformer": True, "num_heads": -1, "num_head_channels": 16}
    config = supported_models.SDXL(shape)
    config.unet_config.update(shape)
    torch.manual_seed(0)
    network = comfy.model_base.SDXL(config, device="cpu")
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator) / max(1, weight[0].numel()) ** 0.5
    return comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))


@pytest.fixture(scope="module")
def texts(clip):
    """Positive and negative of random contexts and pooled texts."""
    generator = torch.Generator().manual_seed(1)
    contexts = torch.randn(3, 1, 77, WIDTH, generator=generator)
    pooled = torch.randn(3, 1, POOLED, generator=generator)
    prompt = DualPrompt(contexts[0], contexts[1], pooled[1], *locate_branches(clip, SUBJECT))
    return ([[contexts[0], {"pooled_output": pooled[0], CONDITIONING_KEY: prompt}]],
            [[contexts[2], {"pooled_output": pooled[2]}]], pooled)


def test_both_text_encoders_agree_on_the_columns_whatever_they_pad_with(clip):
    concept, auxiliary = locate_branches(clip, SUBJECT)
    assert concept.content == tuple(range(1, 8)) and concept.counted == (4, 5)
    assert auxiliary.content == tuple(range(1, 7)) and auxiliary.counted == (1, 2, 3, 5, 6)


def test_two_texts_are_located_in_both(clip):
    both = SubjectPrompt(prompt="wow! a sks dog at sea", prompt_l="see: a sks dog in the sun", subjects=(DOG,))
    concept, auxiliary = locate_branches(clip, both)
    assert concept.counted == (4, 5) and concept.content == tuple(range(1, 9))
    assert auxiliary.counted == (1, 2, 3, 5, 6, 7) and auxiliary.length == 77


def test_two_texts_with_the_subject_at_other_places_are_refused(clip):
    both = SubjectPrompt(prompt="wow! a sks dog at sea", prompt_l="a sks dog", subjects=(DOG,))
    with pytest.raises(InputError, match="at the same place for all text encoders"):
        locate_branches(clip, both)


def test_two_texts_of_which_one_is_longer_are_padded_as_stock_does(clip):
    both = SubjectPrompt(prompt="a sks dog", prompt_l="a sks dog" + " word" * 80, subjects=(DOG,))
    concept, auxiliary = locate_branches(clip, both)
    assert concept.length == auxiliary.length == 154 and len(concept.content) == 83


def test_missing_text_encoder_is_refused():
    with pytest.raises(InputError, match="clip"):
        locate_branches(None, SUBJECT)


@pytest.mark.parametrize("rows", [1, 2])
def test_pooled_texts_go_row_by_row_and_rows_are_as_counted(model, texts, rows):
    positive, negative, _ = texts
    patched = patch_dual_branch(model, DCIConfig())
    seen = []
    network = model.model.diffusion_model
    handle = network.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["y"]), with_kwargs=True)
    with counted_rows(patched) as calls:
        out = ksample(patched, positive, negative, empty_latent(rows))
    handle.remove()
    assert out.isfinite().all() and sum(calls) == rows * (16 + steps_in_window(8))
    concept, auxiliary = seen[0][:rows], seen[0][rows:]
    assert torch.equal(concept, concept[:1].expand(rows, -1)) and not torch.equal(concept, auxiliary)
    assert not torch.equal(out, ksample(model, positive, negative, empty_latent(rows)))


def test_window_zero_is_plain_sampling(model, texts):
    patched = patch_dual_branch(model, DCIConfig(window=0.0))
    assert torch.equal(ksample(patched, *texts[:2]), ksample(model, *texts[:2]))
