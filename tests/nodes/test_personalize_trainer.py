"""The trainer node on a real ComfyUI model: what it gives, keeps and leaves alone."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from tiny_model import tiny_models
from trainer_rig import CancelAt, Untouched, equal, photos, sample, subjects, train, use_store

from comfyui_personalize.core.errors import InputError, TrainingDiverged
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.trainer import Trainer
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.bridge.training.plan import make_plan
from comfyui_personalize.nodes.bridge.training.request import Request

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture
def models():
    return tiny_models()


def preview(every: int = 1) -> PreviewSettings:
    return PreviewSettings(prompt="a sks dog", sampler="euler_ancestral", steps=2, every=every)


def options(**changes) -> TrainingOptions:
    return TrainingOptions(**{"adapter": AdapterConfig(rank=4, alpha=4), "save_every": 2} | changes)


def test_a_run_gives_a_patched_model_the_adapter_and_a_loss_per_step(models):
    model, clip, lora, losses, pictures, _, report, _ = train(models)
    assert len(losses["loss"]) == 3 and all(loss > 0 for loss in losses["loss"])
    assert all(name.startswith("lora_unet_") for name in lora)
    assert not torch.equal(sample(model, clip), sample(*models[:2]))
    assert pictures.shape == (1, 400, 640, 3) and 0 <= pictures.min() <= pictures.max() <= 1
    assert "trained 3 steps" in report and "photos" in report
    assert f"layers that learned: {sum(name.endswith('lora_up.weight') for name in lora)}" in report


def test_equal_input_gives_equal_bits_whatever_the_global_random_state(models, tmp_path, monkeypatch):
    first = train(models)[2]
    use_store(tmp_path / "other", monkeypatch)
    torch.manual_seed(99)
    assert equal(first, train(tiny_models())[2])


def test_training_leaves_the_global_random_state_alone(models):
    before = torch.random.get_rng_state()
    train(models, preview=preview())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_model_and_clip_are_untouched_after_success(models):
    with Untouched(models):
        train(models, preview=preview(), options=options(text_encoder_rate=1e-4))


def test_model_and_clip_are_untouched_after_a_cancel(models, monkeypatch):
    CancelAt(monkeypatch, 2)
    with Untouched(models), pytest.raises(Interrupted):
        train(models, options=options(text_encoder_rate=1e-4))


def test_model_and_clip_are_untouched_after_an_error_in_a_preview(models, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    with Untouched(models), pytest.raises(MemoryError), monkeypatch.context() as patch:
        patch.setattr(comfy.samplers.KSampler, "sample", fail)
        train(models, preview=preview())


def test_an_error_in_a_preview_keeps_the_work_too(models, store, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(comfy.samplers.KSampler, "sample", fail)
        train(models, steps=4, preview=preview(every=2))
    assert (store / "test" / "adapter-000002.safetensors").exists()
    assert "resumed from step 2" in train(models, steps=4)[6]


def test_an_error_inside_an_update_keeps_nothing_half_done(models, store, monkeypatch):
    update = torch.optim.AdamW.step

    def fail_in_the_third(optimizer, *args, **kwargs):
        update(optimizer, *args, **kwargs)
        if float(next(iter(optimizer.state.values()))["step"]) == 3:
            raise torch.OutOfMemoryError

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(torch.optim.AdamW, "step", fail_in_the_third)
        train(models, steps=4, options=options(save_every=1))
    assert not (store / "test" / "adapter-000002.safetensors").exists()
    assert "resumed from step 2" in train(models, steps=4, options=options(save_every=1))[6]


def test_a_checkpoint_without_vae_is_refused(models):
    with pytest.raises(InputError, match="vae: got nothing"):
        train((*models[:2], SimpleNamespace(first_stage_model=None)))


def test_the_key_sees_tokenizer_options_and_the_content_of_embedding_files(models, monkeypatch):
    def key(clip):
        request = Request(model=models[0], clip=clip, vae=models[2], subjects=subjects(identifier="embedding:sks"),
                          config=TrainingConfig(steps=1), run_name="test")
        return make_plan(request, ()).key

    padded, read, vector = models[1].clone(), models[1].tokenize, torch.zeros(8)
    padded.set_tokenizer_option("min_padding", 3)
    monkeypatch.setattr(models[1], "tokenize", lambda text: {"l": [[*read(text)["l"][0], (vector, 1.0)]]})
    before = key(models[1])
    assert key(models[1]) == before != key(padded)
    vector += 1
    assert key(models[1]) != before


def test_same_key_and_steps_loads_without_training_or_encoding(models, monkeypatch):
    first = train(models)
    monkeypatch.setattr(Trainer, "steps", lambda _: pytest.fail("trained again"))
    monkeypatch.setattr(models[2], "encode", lambda *_: pytest.fail("encoded again"))
    again = train(tiny_models()[:2] + (models[2],), run_name="another name")
    assert equal(first[2], again[2]) and first[3] == again[3] and "loaded" in again[6]


def test_other_settings_on_the_same_data_call_neither_vae_nor_text_encoder(models, monkeypatch):
    train(models)
    monkeypatch.setattr(models[2], "encode", lambda *_: pytest.fail("encoded again"))
    monkeypatch.setattr(models[1], "encode_from_tokens", lambda *_, **__: pytest.fail("encoded again"))
    train(models, learning_rate=2e-3)


def test_an_extended_run_equals_an_uninterrupted_one(models, tmp_path, monkeypatch):
    train(models, steps=2)
    extended = train(models, steps=5)
    assert "resumed from step 2" in extended[6]
    use_store(tmp_path / "other", monkeypatch)
    whole = train(models, steps=5)
    assert equal(extended[2], whole[2]) and extended[3] == whole[3]


def test_fewer_steps_than_saved_gives_what_a_short_run_gives(models, tmp_path, monkeypatch):
    train(models, steps=4)
    short = train(models, steps=2)
    assert "loaded 4 steps" in train(models, steps=4)[6]
    use_store(tmp_path / "other", monkeypatch)
    assert equal(short[2], train(models, steps=2)[2])


def test_a_cancel_keeps_a_loadable_file_and_the_run_resumes_to_the_same_bits(models, store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        CancelAt(patch, 3)
        train(models, steps=5)
    lora = comfy.utils.load_torch_file(str(store / "test" / "adapter-000003.safetensors"))
    kept = comfy.sd.load_lora_for_models(*models[:2], lora, 1.0, 1.0)
    assert not torch.equal(sample(*kept), sample(*models[:2]))
    resumed = train(models, steps=5)
    assert "resumed from step 3" in resumed[6]
    use_store(tmp_path / "other", monkeypatch)
    assert equal(resumed[2], train(models, steps=5)[2])


def test_a_cancel_during_a_preview_keeps_the_work_too(models, store, monkeypatch):
    def cancelled(*_, **__):
        raise Interrupted

    with Untouched(models), monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(comfy.samplers.KSampler, "sample", cancelled)
        train(models, steps=4, preview=preview(every=2))
    assert (store / "test" / "adapter-000002.safetensors").exists()
    assert "resumed from step 2" in train(models, steps=4)[6]


def test_a_cancel_during_a_forward_keeps_the_steps_before_it(models, store, monkeypatch):
    calls, predict = [], ComfyDenoiser.__call__

    def cancelled(denoiser, *arguments):
        calls.append(1)
        if len(calls) == 3:
            comfy.model_management.interrupt_current_processing(True)
        return predict(denoiser, *arguments)

    plain = options(gradient_checkpointing="off")
    with Untouched(models), monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(ComfyDenoiser, "__call__", cancelled)
        train(models, steps=5, options=plain)
    kept = sorted(path.name for path in store.glob("test/adapter-*"))
    assert kept in (["adapter-000002.safetensors"], ["adapter-000003.safetensors"])


def test_previews_change_no_bit_of_the_result(models, tmp_path, monkeypatch):
    plain = train(models, options=options(text_encoder_rate=1e-4))
    use_store(tmp_path / "other", monkeypatch)
    seen = train(models, options=options(text_encoder_rate=1e-4), preview=preview())
    assert equal(plain[2], seen[2]) and plain[3] == seen[3]
    assert seen[4].shape == (3, 64, 64, 3)


def test_the_last_preview_is_the_finished_model_and_needs_no_training(models, monkeypatch):
    seen = train(models, preview=preview())
    monkeypatch.setattr(Trainer, "steps", lambda _: pytest.fail("trained again"))
    again = train(models, preview=preview(every=7))
    assert torch.equal(seen[4][-1:], again[4])


def test_training_goes_on_top_of_a_lora_that_the_graph_applied(models):
    other = train(models, learning_rate=1e-2, run_name="other")
    patched = (*other[:2], models[2])
    with Untouched(models):
        with Untouched(patched):
            result = train(patched)
        assert result[5].metadata["base_model_hash"] != other[5].metadata["base_model_hash"]
        assert sum(len(patches) for patches in result[0].patches.values()) == 2 * len(result[0].patches)


def test_a_trained_text_encoder_is_in_the_file_and_in_the_clip(models):
    _, clip, lora, *_ = train(models, options=options(text_encoder_rate=1e-2))
    assert any(name.startswith("lora_te_text_model_encoder_layers_0_self_attn_") for name in lora)
    encoded = [encoder.encode_from_tokens(encoder.tokenize("a sks dog")) for encoder in (clip, models[1])]
    assert not torch.equal(*encoded)


def test_gradient_checkpointing_changes_nothing_beyond_rounding(models, tmp_path, monkeypatch):
    plain = train(models, options=options(gradient_checkpointing="off"))
    use_store(tmp_path / "other", monkeypatch)
    recomputed = train(models, options=options(gradient_checkpointing="on"))
    assert recomputed[3]["loss"] == pytest.approx(plain[3]["loss"], rel=1e-5)
    assert all(torch.allclose(recomputed[2][name], plain[2][name], atol=1e-5) for name in plain[2])


def test_nan_stops_with_an_error_and_the_last_good_state(models, store, monkeypatch):
    calls, predict = [], ComfyDenoiser.__call__

    def broken(denoiser, *arguments):
        calls.append(1)
        return predict(denoiser, *arguments) * (float("nan") if len(calls) > 3 else 1.0)

    with Untouched(models), monkeypatch.context() as patch, pytest.raises(TrainingDiverged, match="step 4"):
        patch.setattr(ComfyDenoiser, "__call__", broken)
        train(models, steps=6, options=options(gradient_checkpointing="off"))
    assert (store / "test" / "adapter-000003.safetensors").exists()
    assert "resumed from step 3" in train(models, steps=6, options=options(gradient_checkpointing="off"))[6]


def test_another_key_under_the_same_name_gets_a_suffix(models, store):
    train(models)
    train(models, learning_rate=2e-3)
    train(models, subject=subjects(photos=photos(seed=3)))
    assert sorted(path.name for path in store.iterdir() if not path.name.startswith(".")) == [
        "test", "test-2", "test-3"]


def test_prompts_over_77_tokens_train(models):
    long = "a {V} {noun} " + " ".join(f"word{number}" for number in range(60))
    train(models, subject=subjects(caption_template=long), options=options(text_encoder_rate=1e-4))


def test_a_unicode_noun_and_several_words_train(models):
    lora = train(models, subject=subjects(class_noun="Plüsch-Bär 熊 toy"))[5]
    assert lora.metadata["class_nouns"] == ["Plüsch-Bär 熊 toy"]
