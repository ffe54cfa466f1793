"""The exported file has every key that ComfyUI's loader looks for."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from comfyui_personalize.pocket.config import (
    BOS,
    CONTEXT_DIM,
    EOS,
    LATENT_CHANNELS,
    MAX_TOKENS,
    MODEL_CHANNELS,
    VOCAB_SIZE,
)
from comfyui_personalize.pocket.export import CHECKPOINT, MAX_BYTES, rename_text, rename_unet
from comfyui_personalize.pocket.names import load_names, tokenizer_folder
from comfyui_personalize.pocket.unet import (
    FILE_EPSILON,
    TRAINED_EPSILON,
    build_unet,
    file_state,
    output_scale,
    scale_output,
    start_from_identity,
    use_cpu_operations,
)

needs_tokenizer = pytest.mark.skipif(
    not (tokenizer_folder() / "vocab.json").exists(), reason="CLIP's vocabulary is missing: run `make setup`")
needs_checkpoint = pytest.mark.skipif(
    not CHECKPOINT.exists(), reason="pocket/checkpoints/pocket.safetensors is missing: run `python -m pocket.train`")


def test_sizes_differ_from_stock_sd15():
    assert MODEL_CHANNELS != 320 and CONTEXT_DIM != 768


def test_every_unet_tensor_gets_one_comfyui_key():
    state = build_unet().state_dict()
    renamed = rename_unet(state)
    assert len(renamed) == len(state)
    assert renamed["model.diffusion_model.input_blocks.0.0.weight"].shape[1] == LATENT_CHANNELS
    assert "model.diffusion_model.output_blocks.1.2.conv.weight" in renamed
    assert "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight" in renamed


def test_an_unknown_unet_key_is_refused():
    with pytest.raises(KeyError, match="add_embedding"):
        rename_unet({"add_embedding.weight": torch.zeros(1)})


def test_text_keys_are_the_same_with_and_without_transformers_prefix():
    keys = ("embeddings.token_embedding.weight", "text_model.embeddings.token_embedding.weight")
    assert rename_text({keys[0]: torch.zeros(1)}).keys() == rename_text({keys[1]: torch.zeros(1)}).keys()


def test_cpu_operations_keep_the_unets_function():
    torch.manual_seed(0)
    unet = build_unet().eval()
    inputs = (torch.randn(1, LATENT_CHANNELS, 16, 16), torch.tensor([500]), torch.randn(1, MAX_TOKENS, CONTEXT_DIM))
    with torch.no_grad():
        before = unet(*inputs).sample
        after = use_cpu_operations(unet)(*inputs).sample
    assert torch.allclose(before, after, atol=1e-4)


def test_an_identity_start_predicts_its_input_and_how_strong_it_is():
    """A normalised output would answer x / rms(x): what a start differs from unit strength would never be removed."""
    unet, x = start_from_identity(build_unet()).eval(), torch.randn(2, LATENT_CHANNELS, 8, 8)
    with torch.no_grad():
        out = unet(x, torch.tensor([5, 900]), torch.randn(2, 3, CONTEXT_DIM)).sample
    rms = x.square().mean((2, 3), keepdim=True).sqrt()
    assert torch.allclose(out, x * (17 / (16 + rms.square())).sqrt(), atol=1e-3)
    assert (out - x).square().mean() < (x / rms - x).square().mean() / 100


def test_the_files_small_weights_and_epsilon_are_the_trained_function():
    torch.manual_seed(0)
    trained = start_from_identity(build_unet()).eval()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    filed = build_unet().eval()
    filed.load_state_dict({key: tensor.half().float() for key, tensor in file_state(trained).items()})
    inputs = (torch.randn(1, LATENT_CHANNELS, 12, 12), torch.tensor([500]), torch.randn(1, 7, CONTEXT_DIM))
    with torch.no_grad():
        wanted, found = trained(*inputs).sample, filed(*inputs).sample
    assert filed.conv_norm_out.eps == FILE_EPSILON and trained.conv_norm_out.eps == TRAINED_EPSILON
    assert (wanted - found).abs().max() < 0.01 * wanted.std()
    scale_output(trained, output_scale(trained))
    with torch.no_grad():
        assert torch.allclose(trained(*inputs).sample, wanted, atol=1e-3)


@needs_tokenizer
def test_captions_are_tokenized_as_comfyui_does():
    from comfyui_personalize.pocket.text import tokenize

    ids = tokenize(["a dog", ""])
    assert ids.shape == (2, MAX_TOKENS) and ids[0, 0] == BOS and (ids[0, 3:] == EOS).all()
    assert (ids[1, 1:] == EOS).all()


@needs_tokenizer
def test_every_name_is_one_token():
    from comfyui_personalize.pocket.text import tokenize

    ids = tokenize(list(load_names()))
    assert (ids[:, 2] == EOS).all() and len(set(ids[:, 1].tolist())) == len(load_names())


@needs_tokenizer
def test_the_compact_table_expands_to_clips_rows():
    from comfyui_personalize.pocket.text import build_compact_encoder, expand_encoder, full_table, training_vocabulary

    vocabulary = training_vocabulary(100)
    expanded = expand_encoder(build_compact_encoder(vocabulary).state_dict(), vocabulary)
    table = next(v for k, v in expanded.items() if k.endswith("token_embedding.weight"))
    assert table.shape == (VOCAB_SIZE, CONTEXT_DIM) and torch.equal(table, full_table())


@needs_checkpoint
def test_the_checkpoint_is_complete_and_small_enough():
    assert CHECKPOINT.stat().st_size <= MAX_BYTES
    with safe_open(CHECKPOINT, "pt") as file:
        keys = set(file.keys())
        assert file.get_tensor("model.diffusion_model.input_blocks.0.0.weight").dtype == torch.float16
        table = file.get_slice("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight")
        assert table.get_shape() == [VOCAB_SIZE, CONTEXT_DIM]
    assert set(rename_unet(build_unet().state_dict())) <= keys
    assert {"first_stage_model.taesd_decoder.1.weight", "first_stage_model.vae_scale"} <= keys
