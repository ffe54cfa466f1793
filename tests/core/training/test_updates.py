"""Moving averages: what is handed on is their mean, what trains is not touched, and a resume is exact."""

import pytest
import torch
from tiny_unet import same_bits, trainer, training_config

from comfyui_personalize.core.errors import InputError


def run_to(steps, decay, saved=None):
    """Adapter tensors and the whole state after so many steps."""
    with trainer(training_config(steps=steps, ema_decay=decay)) as run:
        if saved:
            run.load_state(*saved)
        list(run.steps())
        return run.export().adapter, run.state()


def test_the_result_is_the_mean_of_the_weights_with_the_warmed_up_decay():
    after = [run_to(steps, 0.0)[0] for steps in (1, 2, 3)]
    averaged, _ = run_to(3, 0.99)
    name = next(name for name in averaged if name.endswith("lora_up.weight"))
    mean = torch.zeros_like(averaged[name])  # B starts at zero
    for step, weights in enumerate(after, start=1):
        # diffusers counts its first update as step 0, which copies the weights.
        decay = 0.0 if step == 1 else min(0.99, step / (9 + step))
        mean = decay * mean + (1 - decay) * weights[name]
    torch.testing.assert_close(averaged[name], mean)


def test_averaging_changes_no_bit_of_what_trains():
    plain, averaged = (run_to(3, decay)[1][0] for decay in (0.0, 0.99))
    assert same_bits(plain, {name: tensor for name, tensor in averaged.items() if not name.startswith("average.")})


def test_exporting_leaves_the_weights_that_train():
    with trainer(training_config(ema_decay=0.9)) as run:
        list(run.steps())
        before = run.state()[0]
        run.export()
        assert same_bits(before, run.state()[0])


def test_a_resumed_run_has_the_same_averages():
    whole, state = run_to(4, 0.9)
    _, saved = run_to(2, 0.9)
    resumed, resumed_state = run_to(4, 0.9, saved)
    assert same_bits(whole, resumed) and same_bits(state[0], resumed_state[0])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(InputError, match="ema_decay: got .* expected 0 to below 1"):
        training_config(ema_decay=decay)
