"""A training step is eq. 1 plus the objectives' terms, over exactly the rows that were asked for."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from peft.tuners.lora import LoraLayer
from tiny_unet import (
    PROMPTS,
    TinyDenoiser,
    TinyTextEncoder,
    outcome,
    photos,
    same_bits,
    schedule,
    trainer,
    training_config,
    training_data,
)
from torch.nn import functional

from comfyui_personalize.core.errors import InputError, TrainingDiverged
from comfyui_personalize.core.objectives import MaskedLoss, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.training.config import TrainingConfig
from comfyui_personalize.core.training.gradient_checkpointing import Kept
from comfyui_personalize.core.training.loss import SUBJECT, loss_terms
from comfyui_personalize.core.training.trainer import Trainer

ONES = torch.ones(1, 8, 8)
EVERYTHING = (PriorPreservation(), MaskedLoss(), ObjectSpecificLoss())


def first_step(config, data=None, denoiser=None):
    """The first step, and the gradients it left."""
    with trainer(config, data, denoiser) as run:
        step = next(run.steps())
        return step, [parameter.grad.clone() for parameter in run.updates.parameters()]


def unclipped(**options):
    return training_config(max_grad_norm=0, **options)


def reference(config, data, weight=1.0):
    """Loss and gradients by single forwards, one row after the other, with diffusers' own noise scheduler."""
    run = trainer(config, data)
    scheduler = DDPMScheduler(beta_schedule="scaled_linear")
    terms: dict[str, float] = {}
    with run:
        for name, rows in run._draw_rows(0).items():
            factor = 1.0 if name == SUBJECT else weight
            for row in range(len(rows)):
                one = {part: getattr(rows, part)[row:row + 1] for part in ("latents", "noise", "index")}
                noisy = scheduler.add_noise(one["latents"], one["noise"], one["index"])
                prediction = run.denoiser(noisy, one["index"], run._text.rows(rows.prompts[row:row + 1]))
                loss = factor * functional.mse_loss(prediction, one["noise"]) / len(rows)
                loss.backward()
                terms[name] = terms.get(name, 0.0) + loss.item()
        return terms, [parameter.grad.clone() for parameter in run.updates.parameters()]


# Rows and terms


def test_batch_two_with_prior_equals_single_forwards():
    data, config = training_data(), unclipped(batch=2, objectives=[PriorPreservation(weight=0.5)])
    step, gradients = first_step(config, data)
    terms, single_gradients = reference(config, data, weight=0.5)
    assert step.terms.keys() == {"subject", "prior_preservation"}
    for name, value in step.terms.items():
        assert value == pytest.approx(terms[name], rel=1e-5)
    assert step.loss == pytest.approx(sum(terms.values()), rel=1e-5)
    for ours, theirs in zip(gradients, single_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_two_subjects_learn_their_own_prompts_and_priors():
    data = training_data((*photos(2, "dog"), *photos(2, "cat", caption="a tqz cat")))
    config = unclipped(batch=4, objectives=[PriorPreservation()])
    step, _ = first_step(config, data)
    terms, _ = reference(config, data)
    assert step.loss == pytest.approx(sum(terms.values()), rel=1e-5)


@pytest.mark.parametrize(("objectives", "expected"), [
    ((), 2), ((PriorPreservation(),), 4), ((MaskedLoss(),), 2), ((ObjectSpecificLoss(),), 4), (EVERYTHING, 6),
])
def test_a_micro_step_is_one_forward_of_exactly_the_declared_rows(objectives, expected):
    denoiser = TinyDenoiser()
    config = training_config(steps=2, batch=2, accumulation=3, objectives=objectives)
    with trainer(config, training_data(photos(mask=ONES)), denoiser) as run:
        list(run.steps())
    assert denoiser.rows == [expected] * 6


def test_the_masked_loss_is_eq_1_where_the_mask_is_one():
    data = training_data(photos(mask=ONES))
    plain, plain_gradients = first_step(unclipped(), data)
    masked, gradients = first_step(unclipped(objectives=[MaskedLoss()]), data)
    assert masked.loss == plain.loss
    assert all(map(torch.equal, gradients, plain_gradients))


def test_the_background_teaches_nothing_at_weight_zero():
    mask = ONES.clone()
    mask[..., 4:] = 0
    data = training_data(photos(1, mask=mask))
    run = trainer(training_config(batch=1, objectives=[MaskedLoss()]), data)
    error = torch.zeros(1, 4, 8, 8)
    error[..., 4:] = 5
    outcomes = {SUBJECT: outcome(error, run._draw_rows(0)[SUBJECT])}
    assert loss_terms(run.config.objectives, outcomes)[SUBJECT] == 0


def test_eq_4_is_twice_eq_1_where_the_mask_is_one_and_the_captions_are_equal():
    data = training_data(photos(mask=ONES, object_caption=PROMPTS["caption"]))
    plain, plain_gradients = first_step(unclipped(), data)
    both, gradients = first_step(unclipped(objectives=[ObjectSpecificLoss()]), data)
    assert both.loss == pytest.approx(2 * plain.loss, rel=1e-6)
    for ours, theirs in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours, 2 * theirs, atol=1e-6, rtol=1e-4)


def test_accumulating_micro_steps_is_one_step_of_the_larger_batch():
    data = training_data(photos(4))
    small = trainer(unclipped(steps=1, batch=1, accumulation=2), data)
    rows = [small._draw_rows(step)[SUBJECT] for step in (0, 1)]
    with small:
        step = next(small.steps())
        small_gradients = [parameter.grad.clone() for parameter in small.updates.parameters()]
    large = trainer(unclipped(steps=1, batch=2), data)
    joined = {part: torch.cat([getattr(row, part) for row in rows]) for part in ("latents", "noise", "index")}
    large._draw_rows = lambda micro_step: {
        SUBJECT: replace(rows[0], prompts=rows[0].prompts + rows[1].prompts, **joined)
    }
    with large:
        assert next(large.steps()).loss == pytest.approx(step.loss, rel=1e-5)
        for ours, theirs in zip(small_gradients, large.updates.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_target_are_those_of_diffusers(prediction):
    ours, theirs = schedule(prediction), DDPMScheduler(beta_schedule="scaled_linear")
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([0, 400, 999])
    torch.testing.assert_close(ours.add_noise(latents, noise, index), theirs.add_noise(latents, noise, index))
    target = noise if prediction == "epsilon" else theirs.get_velocity(latents, noise, index)
    torch.testing.assert_close(ours.target(latents, noise, index), target)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
@pytest.mark.parametrize("options", [
    {"optimizer": "adam"}, {"optimizer": "sgd"}, {"lr_schedule": "linear"}, {"lr_schedule": "cosine"},
    {"lr_schedule": "constant_with_warmup", "warmup_steps": 2}, {"precision": "bf16"},
    {"gradient_checkpointing": "on"}, {"text_encoder_rate": 1e-4},
], ids=str)
def test_every_option_trains_in_every_prediction_space(prediction, options):
    config = training_config(steps=2, objectives=EVERYTHING, **options)
    with trainer(config, training_data(photos(mask=ONES)), TinyDenoiser(prediction)) as run:
        assert all(math.isfinite(step.loss) for step in run.steps())


def test_the_loss_at_fixed_noise_falls():
    config = training_config(steps=30, learning_rate=1e-2, batch=2)
    with trainer(config, training_data(photos(1))) as run:
        fixed = run._draw_rows(1000)[SUBJECT]

        def loss():
            with torch.no_grad():
                prediction = run._denoise(fixed, run._text.rows(fixed.prompts))
                return functional.mse_loss(prediction, fixed.noise).item()

        before = loss()
        list(run.steps())
        assert loss() < 0.9 * before


def test_the_learning_rate_follows_the_schedule():
    config = training_config(steps=4, lr_schedule="linear", learning_rate=1e-3)
    with trainer(config) as run:
        assert [step.learning_rate for step in run.steps()] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


def peft_layers(unet):
    return [module for module in unet.modules() if isinstance(module, LoraLayer)]


def test_bf16_autocasts_the_network_and_keeps_the_adapter_in_float32():
    seen = []
    denoiser = TinyDenoiser()
    denoiser.module.conv_in.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with trainer(training_config(steps=1, precision="bf16"), denoiser=denoiser) as run:
        list(run.steps())
        assert seen == [torch.bfloat16]
        assert not any(layer.cast_input_dtype_enabled for layer in peft_layers(denoiser.module))
        assert {parameter.dtype for parameter in run.updates.parameters()} == {torch.float32}


# What changes, and what does not


def test_the_adapter_alone_changes():
    denoiser, text_encoder = TinyDenoiser(), TinyTextEncoder()
    before = {name: value.clone() for name, value in denoiser.module.state_dict().items()}
    with trainer(training_config(), denoiser=denoiser, text_encoder=text_encoder) as run:
        start = run.state()[0]
        list(run.steps())
        changed = run.state()[0]
        assert all(not torch.equal(start[name], changed[name]) for name in start)
    assert same_bits(denoiser.module.state_dict(), before)


def modules_of(*owners):
    return [{path: id(module) for path, module in owner.module.named_modules()} for owner in owners]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_after_any_end_the_networks_are_what_they_were(error):
    denoiser, text_encoder = TinyDenoiser(), TinyTextEncoder()
    before = modules_of(denoiser, text_encoder)
    config = training_config(text_encoder_rate=1e-4, gradient_checkpointing="on")
    run = trainer(config, denoiser=denoiser, text_encoder=text_encoder)
    try:
        with run:
            next(run.steps())
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert modules_of(denoiser, text_encoder) == before
    assert not any("forward" in vars(module) for module in denoiser.module.modules())
    assert len(run.export().adapter) > 0


def test_nothing_is_left_behind_when_starting_fails():
    denoiser = TinyDenoiser()
    before = modules_of(denoiser)
    with pytest.raises(InputError, match="rank"), trainer(training_config(rank=99), denoiser=denoiser):
        pass
    assert modules_of(denoiser) == before


def test_ejecting_for_a_preview_changes_no_bit_of_the_result():
    def result(preview):
        with trainer(training_config(steps=4)) as run:
            for _ in run.steps():
                if preview:
                    run.eject()
                    torch.randn(10)
                    run.inject()
            return run.state()[0]

    assert same_bits(result(preview=False), result(preview=True))


def test_a_frozen_text_encoder_encodes_every_prompt_once_and_is_idle_then():
    text_encoder = TinyTextEncoder()
    with trainer(training_config(objectives=[PriorPreservation()]), text_encoder=text_encoder) as run:
        encoded = dict(text_encoder.encoded)
        list(run.steps())
    assert dict(text_encoder.encoded) == encoded == {**dict.fromkeys(PROMPTS.values(), 1), "a dog": 1}


def test_a_trained_text_encoder_learns_at_its_own_rate():
    with trainer(training_config(steps=2, text_encoder_rate=1e-4, learning_rate=1e-3)) as run:
        start = run.state()[0]
        list(run.steps())
        tensors = run.state()[0]
        text = [name for name in tensors if name.startswith("text_encoder.") and "lora_B" in name]
        assert text and all(not torch.equal(start[name], tensors[name]) for name in text)
        assert [group["lr"] for group in run.updates.optimizer.param_groups] == [1e-3, 1e-4]
        assert any(key.startswith("lora_te_") for key in run.export().adapter)


def test_exported_keys_are_those_of_the_network():
    with trainer() as run:
        keys = set(run.export().adapter)
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight" in keys
    assert all(key.startswith("lora_unet_") for key in keys)


@pytest.mark.parametrize(("switch", "free", "expected"), [
    ("on", None, True), ("off", 0, False), ("auto", None, False), ("auto", 0, True), ("auto", 10**12, False),
])
def test_checkpointing_is_chosen_by_the_switch_and_the_free_memory(switch, free, expected):
    config = training_config(gradient_checkpointing=switch)
    with trainer(config, free_bytes=free) as run:
        assert bool(run._recomputed_blocks) is expected


def test_gradients_and_two_moments_of_all_that_learns_are_kept_free_when_checkpointing_is_chosen(monkeypatch):
    monkeypatch.setattr("comfyui_personalize.core.training.trainer.measure_kept",
                        lambda *_: Kept(copies=0, activations=800))
    config = training_config(batch=2, gradient_checkpointing="auto", text_encoder_rate=1e-4)
    with trainer(config) as run:
        learned = sum(parameter.nbytes for parameter in run.updates.parameters())
    enough = 2 * 800 / 0.8 + 3 * learned
    for free, expected in ((enough, False), (enough - 1, True)):
        with trainer(config, free_bytes=free) as run:
            assert bool(run._recomputed_blocks) is expected


def test_checkpointing_changes_no_bit():
    def result(switch):
        with trainer(training_config(gradient_checkpointing=switch, text_encoder_rate=1e-4)) as run:
            list(run.steps())
            return run.state()[0]

    assert same_bits(result("on"), result("off"))


def test_class_images_are_no_rows_without_the_objective():
    run = trainer(training_config(objectives=[]))
    assert run.exposure().class_images == {}


# Divergence


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_diverges_is_not_applied(bad):
    denoiser = TinyDenoiser()
    with trainer(training_config(steps=5), denoiser=denoiser) as run:
        steps = run.steps()
        next(steps)
        good = run.state()
        handle = denoiser.module.conv_out.register_forward_hook(lambda _, __, output: output * bad)
        with pytest.raises(
            TrainingDiverged, match="step 2: got a loss of (nan|inf).*Lower the learning rate"
        ):
            next(steps)
        handle.remove()
        tensors, meta = run.state()
        assert same_bits(tensors, good[0]) and meta == good[1] and run.step == 1


def test_a_gradient_that_overflows_is_not_applied():
    with trainer(training_config(steps=5)) as run:
        run.updates.parameters()[1].register_hook(lambda gradient: gradient * math.inf)
        good = run.state()[0]
        with pytest.raises(TrainingDiverged, match="gradient norm of (nan|inf)"):
            next(run.steps())
        assert same_bits(run.state()[0], good)


def test_objectives_are_checked_before_anything_is_touched():
    with pytest.raises(InputError, match="no mask for photo 1"):
        trainer(training_config(objectives=[MaskedLoss()]))


# Inference mode, in which ComfyUI runs nodes


def test_the_trainer_steps_out_of_inference_mode_by_itself():
    denoiser, text_encoder = TinyDenoiser(), TinyTextEncoder()
    with torch.inference_mode():
        data = training_data(photos(mask=torch.ones(1, 8, 8)))
        with trainer(training_config(objectives=EVERYTHING), data, denoiser, text_encoder) as run:
            losses = [step.loss for step in run.steps()]
    with trainer(training_config(objectives=EVERYTHING), training_data(photos(mask=ONES))) as run:
        assert losses == [step.loss for step in run.steps()]


def test_core_imports_nothing_of_comfyui():
    root = Path(__file__).parents[3]
    code = f"""
import importlib.abc, pkgutil, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server"):
            raise AssertionError("core imports " + name)
sys.meta_path.insert(0, Blocked())
sys.path[:] = [entry for entry in sys.path if entry not in ("", {str(root)!r})]
import types
package = types.ModuleType("comfyui_personalize"); package.__path__ = [{str(root)!r}]
sys.modules["comfyui_personalize"] = package
import comfyui_personalize.core as core
names = [module.name for module in pkgutil.walk_packages(core.__path__, core.__name__ + ".")]
for name in names:
    importlib.import_module(name)
assert "peft" not in sys.modules and "diffusers" not in sys.modules, "imported before a run needs them"
print(len(names))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path("/"))
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 12


def test_precision_auto_is_bf16_only_where_the_gpu_has_it_itself(monkeypatch):
    trainer = object.__new__(Trainer)
    trainer.config = TrainingConfig(steps=1)
    trainer.denoiser = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not trainer._is_bf16
