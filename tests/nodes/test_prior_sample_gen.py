"""PriorSampleGen on a real ComfyUI model: what is sampled, kept, continued and told apart."""

from __future__ import annotations

import copy

import comfy.model_management
import comfy.samplers
import comfy.sd
import folder_paths
import pytest
import torch
from run_node import run_node
from tiny_model import tiny_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store.class_images import PriorCache
from comfyui_personalize.nodes.bridge.sampling import class_images
from comfyui_personalize.nodes.prior_sample_gen import PriorSampleGen

Interrupted = comfy.model_management.InterruptProcessingException
SETTINGS = {"class_noun": "dog", "count": 3, "size": 64, "sampler": "euler_ancestral", "scheduler": "normal",
            "steps": 2, "cfg": 2.0, "seed": 5, "batch": 2, "shown": 16}


@pytest.fixture(autouse=True)
def output(tmp_path):
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_output_directory(before)


@pytest.fixture
def sampled(monkeypatch):
    """The index lists that were sampled, in order."""
    calls = []
    original = class_images.ClassImageSampler.__call__
    monkeypatch.setattr(class_images.ClassImageSampler, "__call__",
                        lambda self, indices: (calls.append(list(indices)), original(self, indices))[1])
    return calls


def generate(models, prior=None, **changes):
    model, clip, vae = models
    settings = {**SETTINGS, **changes}
    return run_node(PriorSampleGen, model=model, clip=clip, vae=vae, prior=prior, **settings)


def files(folder):
    return sorted(path.name for path in folder.rglob("*.safetensors"))


def test_one_pool_of_raw_latents_and_pictures(models):
    (pool,), pictures = generate(models)
    assert pool.prompt == "a dog" and pool.class_noun == "dog" and pool.size == 64
    assert pool.latents.shape == (3, 4, 8, 8) and pool.latents.dtype == torch.float32
    assert not pool.latents.is_inference()
    assert pictures.shape == (3, 64, 64, 3) and 0 <= pictures.min() <= pictures.max() <= 1


def test_only_the_shown_images_are_decoded(models):
    assert generate(models, shown=1)[1].shape[0] == 1


def test_the_second_run_samples_nothing_and_gives_the_same_bits(models, sampled):
    (first,), _ = generate(models)
    (again,), _ = generate(tiny_models())
    assert sampled == [[0, 1], [2, 3]] and torch.equal(first.latents, again.latents) and first.key == again.key


def test_a_larger_count_samples_only_what_is_missing(models, sampled):
    (three,), _ = generate(models)
    (five,), _ = generate(models, count=5)
    assert sampled == [[0, 1], [2, 3], [4, 5]]
    assert torch.equal(five.latents[:3], three.latents) and five.key != three.key


def test_a_smaller_count_is_the_beginning_of_the_pool(models, sampled):
    (three,), _ = generate(models)
    assert torch.equal(generate(models, count=2)[0][0].latents, three.latents[:2]) and len(sampled) == 2


@pytest.mark.parametrize("sampler", ["euler_ancestral", "euler", "lcm", "dpmpp_sde"])
def test_images_do_not_depend_on_the_batch_size(models, output, sampler):
    (batched,), _ = generate(models, sampler=sampler, batch=3)
    folder_paths.set_output_directory(str(output / "other"))
    (single,), _ = generate(models, sampler=sampler, batch=1)
    assert torch.allclose(batched.latents, single.latents, atol=2e-3, rtol=1e-3)
    assert not torch.allclose(batched.latents[0], batched.latents[1], atol=0.1)


def test_images_do_not_depend_on_the_global_random_state(models, output):
    torch.manual_seed(1)
    (first,), _ = generate(models)
    folder_paths.set_output_directory(str(output / "other"))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    (second,), _ = generate(models)
    assert torch.equal(first.latents, second.latents) and torch.equal(before, torch.random.get_rng_state())


def test_a_cancelled_generation_continues_where_it_stopped(models, output, sampled, monkeypatch):
    whole = generate(models, count=5)[0][0].latents
    folder_paths.set_output_directory(str(output / "other"))
    sampled.clear()
    original = class_images.Progress.show

    def cancel(self, step, picture=None):
        if step == 10:  # the first step of the third batch
            comfy.model_management.interrupt_current_processing()
        original(self, step, picture)

    monkeypatch.setattr(class_images.Progress, "show", cancel)
    with pytest.raises(Interrupted):
        generate(models, count=5)
    comfy.model_management.interrupt_current_processing(False)
    monkeypatch.setattr(class_images.Progress, "show", original)
    assert files(output / "other")[:2] == ["00000.safetensors", "00001.safetensors"]
    kept = len(files(output / "other"))
    sampled.clear()
    (pool,), _ = generate(models, count=5)
    assert sampled[0][0] == kept and torch.equal(pool.latents, whole)


def test_a_broken_file_is_made_again(models, output, sampled):
    whole = generate(models)[0][0].latents
    next(output.rglob("00001.safetensors")).write_bytes(b"half a fi")
    assert torch.equal(generate(models)[0][0].latents, whole) and sampled[-1] == [0, 1]


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_sde"])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_kill_between_two_saves_and_a_count_that_no_batch_divides_change_no_bit(models, output, monkeypatch, sampler,
                                                                                number):
    (whole,), _ = generate(models, count=5, batch=4, sampler=sampler)
    folder_paths.set_output_directory(str(output / "killed"))
    save, saved = PriorCache.save, []

    def killed(*arguments):
        if len(saved) == number:
            raise KeyboardInterrupt
        saved.append(save(*arguments))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PriorCache, "save", killed)
        generate(models, count=5, batch=4, sampler=sampler)
    assert len(files(output / "killed")) == number
    (pool,), _ = generate(models, count=5, batch=4, sampler=sampler)
    assert torch.equal(pool.latents, whole.latents) and pool.key == whole.key


def test_no_more_are_sampled_at_once_than_were_asked_for(models, sampled):
    generate(models, count=2, batch=8)
    assert sampled == [[0, 1]]


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"steps": 3}, {"cfg": 3.0}, {"sampler": "euler"}, {"scheduler": "karras"},
               {"class_noun": "cat"}, {"size": 72}])
def test_another_setting_is_another_pool(models, sampled, change):
    (first,), _ = generate(models, count=1)
    (other,), _ = generate(models, count=1, **change)
    assert sampled == [[0], [0]] and first.key != other.key
    assert first.latents.shape != other.latents.shape or not torch.equal(first.latents, other.latents)


def test_another_checkpoint_lora_or_patch_is_another_pool(models, sampled):
    model, clip, vae = models
    name = next(iter(k for k in model.model.state_dict() if k.endswith("attn2.to_k.weight")))
    patched = model.clone()
    patched.add_patches({name: ("diff", (torch.ones_like(model.model.state_dict()[name]),))})
    hooked = model.clone()
    hooked.set_model_sampler_post_cfg_function(lambda arguments: arguments["denoised"] * 0.5)
    stronger = model.clone()
    stronger.set_model_sampler_post_cfg_function(_scaled(0.25))
    weaker = model.clone()
    weaker.set_model_sampler_post_cfg_function(_scaled(0.75))
    skipped = clip.clone()
    skipped.clip_layer(-2)
    every = [models, tiny_models(seed=1), (patched, clip, vae), (hooked, clip, vae), (stronger, clip, vae),
             (weaker, clip, vae), (model, skipped, vae)]
    keys = [generate(each, count=1)[0][0].key for each in every]
    assert len(set(keys)) == len(every) == len(sampled)
    assert generate((model.clone(), clip.clone(), vae), count=1)[0][0].key == keys[0]


def _scaled(factor):
    return lambda arguments: arguments["denoised"] * factor


def test_two_nouns_make_two_pools_and_one_noun_twice_is_refused(models, sampled):
    dogs, _ = generate(models)
    both, _ = generate(models, prior=dogs, class_noun="toy car")
    assert [pool.prompt for pool in both] == ["a dog", "a toy car"]
    sampled.clear()
    with pytest.raises(InputError, match="class_noun: got ' Dog' twice|class_noun: got 'Dog' twice"):
        generate(models, prior=both, class_noun=" Dog")
    assert sampled == []


@pytest.mark.parametrize("missing", ["model", "clip", "vae"])
def test_a_loader_without_a_part_is_named(models, missing):
    parts = dict(zip(("model", "clip", "vae"), models, strict=True))
    with pytest.raises(InputError, match=f"{missing}: got nothing"):
        run_node(PriorSampleGen, **{**parts, missing: None}, **SETTINGS)


def test_a_checkpoint_without_a_vae_is_refused_before_anything_is_sampled(models, sampled):
    empty = copy.copy(models[2])
    empty.first_stage_model = None  # as ComfyUI's checkpoint loader leaves it
    with pytest.raises(InputError, match="vae: got nothing"):
        generate((*models[:2], empty))
    assert not sampled


def test_an_empty_noun_is_warned_about(models, caplog):
    generate(models, class_noun=" ", count=1)
    assert "class noun is empty" in caplog.text


@pytest.mark.full
@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler_gives_finite_images_whatever_the_batch(models, output, sampler):
    (batched,), _ = generate(models, sampler=sampler, batch=2, count=2, steps=4)
    folder_paths.set_output_directory(str(output / "other"))
    (single,), _ = generate(models, sampler=sampler, batch=1, count=2, steps=4)
    assert batched.latents.isfinite().all()
    assert torch.allclose(batched.latents, single.latents, atol=5e-3, rtol=5e-3)


@pytest.mark.full
@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_every_scheduler_gives_finite_images(models, scheduler):
    (pool,), _ = generate(models, scheduler=scheduler, count=1, steps=4)
    assert pool.latents.isfinite().all()
