"""Every optimiser and schedule: what it is given, what is saved of it, what is refused."""

import importlib.util
import json
import math
import sys
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from peft.import_utils import is_bnb_available
from safetensors.torch import load, save
from tiny_unet import same_bits, trainer, training_config, training_data
from torch import nn

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig
from comfyui_personalize.core.training import optimizer as module
from comfyui_personalize.core.training.config import LRSchedule, TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.config import Optimizer as Names
from comfyui_personalize.core.training.optimizer import (
    check_optimizer,
    choose_optimizer,
    make_lr_scheduler,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
)

HERE = ["adamw", "adam", "sgd", "adafactor"]
FULL = TrainingOptions(adapter=AdapterConfig(kind="full"))


class Counting(torch.optim.SGD):
    """Stands for Prodigy: state that is no tensor, groups that change and that JSON cannot hold."""

    def __init__(self, groups, lr, weight_decay=0.0, **_):
        super().__init__(groups, lr=lr, weight_decay=weight_decay)
        for group in self.param_groups:
            group |= {"d": 1.0, "growth_rate": math.inf}

    def step(self, closure=None):
        for group in self.param_groups:
            group["d"] *= 1.1
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                parameter.data.sub_(parameter.grad, alpha=1e-3 * group["d"] * group["lr"] * state["step"])


class Averaging(Counting):
    """Stands for schedule-free AdamW, which has to be told that it trains."""

    def train(self):
        pass

    def eval(self):
        pass


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for the optional packages; peft, which looks for one of them, has looked before."""
    is_bnb_available()
    monkeypatch.setitem(sys.modules, "prodigyopt", SimpleNamespace(Prodigy=Counting))
    monkeypatch.setitem(sys.modules, "schedulefree", SimpleNamespace(AdamWScheduleFree=Averaging))
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(optim=SimpleNamespace(AdamW8bit=Counting),
                                                                     nn=SimpleNamespace()))
    monkeypatch.setattr(module, "is_installed", lambda _: True)


def run(resume_at=None, steps=4, **options):
    """Weights after a run, stopped and begun again from what JSON keeps where asked."""
    config, data, state = training_config(steps=steps, batch=1, **options), training_data(), None
    while True:
        with trainer(config, data) as current:
            if state is not None:
                current.load_state(state[0], json.loads(json.dumps(state[1], allow_nan=False)))
            for step in current.steps():
                if step.step == resume_at and state is None:
                    state = current.state()
                    break
            else:
                return current.state()[0], current.losses


@pytest.mark.parametrize("name", [*HERE, "prodigy", "adamw8bit", "adamw_schedulefree"])
def test_a_resumed_run_ends_with_the_same_bits(packages, name):
    whole, stopped = run(optimizer=name), run(optimizer=name, resume_at=2)
    assert same_bits(whole[0], stopped[0]) and whole[1] == stopped[1]


@pytest.mark.parametrize("name", get_args(LRSchedule))
def test_a_resumed_schedule_ends_with_the_same_bits(name):
    options = {"lr_schedule": name, "warmup_steps": 0 if name == "constant" else 1}
    assert same_bits(run(**options)[0], run(**options, resume_at=2)[0])


@pytest.mark.full
@pytest.mark.parametrize("schedule", get_args(LRSchedule))
@pytest.mark.parametrize("name", HERE)
def test_every_optimizer_resumes_with_every_schedule(name, schedule):
    options = {"optimizer": name, "lr_schedule": schedule}
    assert same_bits(run(**options)[0], run(**options, resume_at=2)[0])


@pytest.mark.parametrize("name", ["prodigy", "adamw8bit", "adamw_schedulefree"])
def test_an_optional_package_resumes_to_the_same_bits_where_it_is_installed(name):
    """The real package; nothing to say where it is not there."""
    if importlib.util.find_spec(module.PACKAGES[name]) is None:
        return
    whole, stopped = run(optimizer=name), run(optimizer=name, resume_at=2)
    assert same_bits(whole[0], stopped[0]) and whole[1] == stopped[1]


def eight_bit_steps(weights, first, last, made):
    for step in range(first, last):
        for number, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(10 * step + number))
        made.step()


def test_a_state_of_8_bits_is_kept_and_goes_on_to_the_same_bits():
    """The real bitsandbytes, whose 8-bit entries come in a dict of their own; nothing to say where it is not there."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    check_optimizer(TrainingConfig(steps=1, options=TrainingOptions(optimizer="adamw8bit")), "cpu")

    def fresh():
        weights = [nn.Parameter(torch.ones(64, 128)), nn.Parameter(torch.ones(7, 3))]
        return weights, make_optimizer("adamw8bit", [{"params": weights, "lr": 1e-2}])

    whole, made = fresh()
    eight_bit_steps(whole, 0, 4, made)
    weights, stopped = fresh()
    eight_bit_steps(weights, 0, 2, stopped)
    tensors, values = optimizer_state(stopped)
    assert tensors["0.state1"].dtype == torch.uint8 and tensors["1.state1"].dtype == torch.float32
    assert sum(tensors[f"0.state{number}"].nbytes for number in (1, 2)) == module.STATE_BYTES["adamw8bit"] * 64 * 128
    goes_on = make_optimizer("adamw8bit", [{"params": weights, "lr": 1e-2}])
    restore_optimizer(goes_on, load(save(tensors)), json.loads(json.dumps(values, allow_nan=False)))
    eight_bit_steps(weights, 2, 4, goes_on)
    assert all(map(torch.equal, weights, whole))


def test_entries_in_a_dict_of_their_own_are_kept_beside_the_others():
    """As newer versions of bitsandbytes have them."""
    weight = parameter()
    made = make_optimizer("sgd", [{"params": [weight], "lr": 1e-3}])
    made.state[weight] = {"step": 3, "quantised": {"state1": torch.ones(2, 3, dtype=torch.uint8)}}
    tensors, values = optimizer_state(made)
    assert list(tensors) == ["0.state1"] and values["entries"] == {"0.step": 3}


SCHEDULE_FREE = {"optimizer": "adamw_schedulefree", "learning_rate": 1e-2}


def test_schedule_free_hands_on_the_average_of_its_iterates():
    """Both z and x start at the weights; with one rate throughout, x is the plain mean of all z."""
    iterates = []
    with trainer(training_config(steps=4, **SCHEDULE_FREE)) as run_:
        for _ in run_.steps():
            iterates.append({key: value for key, value in optimizer_state(run_.updates.optimizer)[0].items()
                             if key.endswith(".z")})
        parameters = run_.updates.parameters()
        with run_.updates.averaged():
            averages = [parameter.detach().clone() for parameter in parameters]
    for number, average in enumerate(averages):
        mean = torch.stack([found[f"{number}.z"] for found in iterates]).mean(dim=0)
        torch.testing.assert_close(average, mean, rtol=1e-4, atol=1e-6)


def test_looking_at_the_average_changes_no_bit_of_what_trains():
    config = training_config(steps=4, **SCHEDULE_FREE)
    with trainer(config) as plain:
        list(plain.steps())
    with trainer(config) as looked:
        for _ in looked.steps():
            looked.export()
        assert same_bits(looked.state()[0], plain.state()[0])


@pytest.mark.parametrize(("options", "message"), [
    ({"lr_schedule": "cosine"}, "lr_schedule: got cosine with adamw_schedulefree"),
    ({"ema_decay": 0.9}, "ema_decay: got 0.9 with adamw_schedulefree"),
])
def test_schedule_free_is_refused_with_another_average_or_a_falling_rate(packages, options, message):
    options = TrainingOptions(optimizer="adamw_schedulefree", **options)
    with pytest.raises(InputError, match=message):
        check_optimizer(TrainingConfig(steps=1, options=options), "cpu")


def test_schedule_free_is_refused_with_token_vectors(packages):
    config = TrainingConfig(steps=1, options=TrainingOptions(optimizer="adamw_schedulefree"),
                            token_vectors=(TokenVectorsConfig(word="sks", start_text="dog"),))
    with pytest.raises(InputError, match="optimizer: got adamw_schedulefree with learned token vectors"):
        check_optimizer(config, "cpu")


def parameter(value=1.0):
    return nn.Parameter(torch.full((2, 3), value))


def moved(name, **group):
    """How far one step with a gradient of ones moves a weight of 1."""
    weight = parameter()
    made = make_optimizer(name, [{"params": [weight], "lr": 1e-3, **group}], 0.0)
    weight.grad = torch.ones_like(weight)
    made.step()
    return float((1 - weight.detach()).mean())


def test_one_rate_means_the_same_to_adamw_and_adafactor():
    assert moved("adamw") == pytest.approx(1e-3, rel=1e-3) and moved("adafactor") == pytest.approx(1e-3, rel=1e-2)


def test_weight_decay_reaches_groups_without_their_own():
    learned, vectors = parameter(), parameter()
    made = make_optimizer("adamw", [{"params": [learned], "lr": 1e-3},
                                    {"params": [vectors], "lr": 1e-3, "weight_decay": 0.0}], 0.1)
    learned.grad, vectors.grad = torch.zeros_like(learned), torch.zeros_like(vectors)
    made.step()
    assert torch.allclose(learned, torch.full((2, 3), 1 - 1e-4)) and torch.equal(vectors, torch.ones(2, 3))


def test_prodigy_gets_one_factor_for_all_groups(packages):
    made = make_optimizer("prodigy", [{"params": [parameter()], "lr": rate} for rate in (1e-4, 1e-3)])
    assert [group["lr"] for group in made.param_groups] == [1.0, 1.0]


def test_state_that_is_no_tensor_is_kept(packages):
    weight = parameter()
    made = make_optimizer("prodigy", [{"params": [weight], "lr": 1.0}])
    weight.grad = torch.ones_like(weight)
    made.step()
    tensors, values = optimizer_state(made)
    again = make_optimizer("prodigy", [{"params": [weight], "lr": 1.0}])
    restore_optimizer(again, tensors, json.loads(json.dumps(values, allow_nan=False)))
    assert again.state[weight]["step"] == 1 and again.param_groups[0]["d"] == 1.1
    assert again.param_groups[0]["growth_rate"] == math.inf


@pytest.mark.parametrize(("options", "device", "installed", "expected"), [
    (TrainingOptions(), "cuda", True, "adamw"), (FULL, "cuda", True, "adamw8bit"), (FULL, "cuda", False, "adafactor"),
    (FULL, "cpu", True, "adafactor"), (TrainingOptions(optimizer="sgd"), "cuda", True, "sgd"),
    (TrainingOptions(text_encoder_rate=1e-5, text_adapter=AdapterConfig(kind="full")), "cpu", True, "adafactor"),
])
def test_auto_is_what_fits(monkeypatch, options, device, installed, expected):
    monkeypatch.setattr(module, "is_installed", lambda _: installed)
    assert choose_optimizer(options, device) == expected


@pytest.mark.parametrize(("fields", "device", "message"), [
    ({"optimizer": "prodigy"}, "cpu", r"got prodigy, and prodigyopt is not installed.*pip install prodigyopt"),
    ({"optimizer": "adamw_schedulefree"}, "cpu", r"schedulefree is not installed.*pip install schedulefree"),
    ({"optimizer": "adamw8bit"}, "cuda", r"got adamw8bit, and bitsandbytes is not installed.*pip install bitsandbytes"),
])
def test_a_missing_package_is_named(monkeypatch, fields, device, message):
    monkeypatch.setattr(module, "is_installed", lambda _: False)
    with pytest.raises(InputError, match=message):
        check_optimizer(TrainingConfig(steps=1, options=TrainingOptions(**fields)), device)


def test_8_bits_are_refused_where_bitsandbytes_cannot_step(packages, monkeypatch):
    def fail(*_):
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(Counting, "step", fail)
    with pytest.raises(InputError, match="got adamw8bit on cpu, where this bitsandbytes cannot take a step"):
        check_optimizer(TrainingConfig(steps=1, options=TrainingOptions(optimizer="adamw8bit")), "cpu")


def test_a_rate_below_the_end_of_the_polynomial_is_refused():
    options = TrainingOptions(lr_schedule="polynomial")
    with pytest.raises(InputError, match="learning_rate: got 1e-08, expected above 1e-07"):
        check_optimizer(TrainingConfig(steps=1, learning_rate=1e-8, options=options), "cpu")


def rates(steps=8, **options):
    made = make_optimizer("sgd", [{"params": [parameter()], "lr": 0.01}])
    scheduler = make_lr_scheduler(TrainingOptions(**options), made, steps)
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0] / 0.01)
        made.step()
        scheduler.step()
    return seen


def test_the_polynomial_falls_by_its_power():
    expected = [(1 - step / 8) ** 2 for step in range(8)]
    assert rates(lr_schedule="polynomial", lr_power=2.0) == pytest.approx(expected, abs=1e-4)


def test_the_cosine_restarts_as_often_as_asked():
    seen = rates(lr_schedule="cosine_with_restarts", lr_cycles=2)
    assert seen == pytest.approx([0.5 * (1 + math.cos(math.pi * (step % 4) / 4)) for step in range(8)])


@pytest.mark.parametrize("name", get_args(Names))
def test_every_name_is_known(packages, name):
    made = choose_optimizer(TrainingOptions(optimizer=name), "cpu")
    assert make_optimizer(made, [{"params": [parameter()], "lr": 1e-3}]) is not None and made in module.STATE_BYTES
