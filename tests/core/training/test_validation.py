"""The validation loss is eq. 1 at fixed draws; the best checkpoint and the early end follow from its history."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from tiny_unet import photos, same_bits, trainer, training_config, training_data
from torch.nn import functional

from comfyui_personalize.core.data.examples import TrainingData
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training.validation import History, ValidationConfig, validation_rows

HELD_OUT = TrainingData(examples=photos(2, seed=9, caption="a sks dog on a chair"))


def judged(*losses, **config) -> History:
    return History(ValidationConfig(**config), [{"step": 10 * (number + 1), "validation_loss": loss}
                                                for number, loss in enumerate(losses)])


def test_the_loss_is_eq_1_over_held_out_photos_at_levels_spread_over_the_schedule():
    config = replace(training_config(), validation=ValidationConfig(draws=4))
    scheduler = DDPMScheduler(beta_schedule="scaled_linear")
    with trainer(config, held_out=HELD_OUT) as run, torch.no_grad():
        losses = []
        for rows in validation_rows(HELD_OUT, 1000, 4):
            assert rows.index.tolist() == [125, 375, 625, 875]
            noisy = scheduler.add_noise(rows.latents, rows.noise, rows.index)
            prediction = run.denoiser(noisy, rows.index, run._text.rows(rows.prompts))
            losses.append(functional.mse_loss(prediction, rows.noise))
        assert run.validation_loss() == pytest.approx(float(sum(losses) / 2), rel=1e-5)


def test_looking_at_it_changes_no_bit_and_gives_the_same_number_again():
    def result(look):
        with trainer(training_config(), held_out=HELD_OUT) as run:
            for _ in run.steps():
                if look:
                    assert run.validation_loss() == run.validation_loss()
            return run.state()[0]

    assert same_bits(result(False), result(True))


def test_it_falls_on_the_photos_that_are_learned_and_is_of_the_averages():
    data = training_data(photos(1))
    with trainer(training_config(steps=20, learning_rate=1e-2, ema_decay=0.5), data,
                 held_out=TrainingData(examples=photos(1))) as run:
        before = run.validation_loss()
        list(run.steps())
        averaged = run.validation_loss()
        assert averaged < before
        run.updates._averages = None
        assert run.validation_loss() != averaged


def test_the_best_step_is_the_earliest_smallest_loss():
    history = judged(3.0, 1.0, 1.0, 2.0)
    assert history.best_step(40) == 20 and history.best_step(10) == 10 and history.best_step(5) is None


def test_figures_of_likeness_are_better_when_larger():
    history = History(ValidationConfig(best_by="clip_i"), [{"step": 1, "clip_i": 0.2}, {"step": 2, "clip_i": 0.6}])
    assert history.best_step(2) == 2


def test_the_last_checkpoint_is_handed_on_where_nothing_chooses():
    assert judged(3.0, 1.0, 2.0, best_by="last").best_step(30) is None


@pytest.mark.parametrize(("patience", "end"), [(0, 100), (1, 30), (2, 40), (3, 100)])
def test_patience_ends_a_run_after_so_many_judgements_without_a_better_one(patience, end):
    assert judged(3.0, 1.0, 2.0, 1.5, patience=patience).end(100) == end


def test_a_better_judgement_renews_patience():
    assert judged(3.0, 3.5, 1.0, 2.0, patience=2).end(100) == 100


def test_the_same_step_is_judged_once():
    history = judged(3.0)
    history.add(10, {"validation_loss": 9.0})
    assert history.figures == [{"step": 10, "validation_loss": 3.0}]


@pytest.mark.parametrize(("changes", "message"), [
    ({"every": 0}, "every: got 0"), ({"draws": 0}, "draws: got 0"), ({"best_by": "beauty"}, "best_by: got 'beauty'"),
    ({"patience": 2, "best_by": "last"}, "patience: got 2, expected 0 where best_by is last")])
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ValidationConfig(**changes)
