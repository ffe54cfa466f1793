"""References go with the rows of their photo, and with nothing else."""

from __future__ import annotations

import torch
from tiny_unet import TinyDenoiser, TinyTextEncoder, photos, schedule, trainer, training_config, training_data

from comfyui_personalize.core.data.batch import stack
from comfyui_personalize.core.data.examples import References, TrainingData
from comfyui_personalize.core.data.noise import NoiseSource
from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.data.order import draw_subject_rows
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.core.objectives import BasePrior, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.training.prompt_encodings import TextSide

SHOWN = [References(latents=(torch.full((4, 6, 8), float(number)),), pictures=(torch.zeros(8, 8, 3),), key=str(number))
         for number in range(2)]


def edit_data(**changes) -> TrainingData:
    data = training_data(photos(count=2, **changes))
    return data.with_references([[shown] for shown in SHOWN])


def test_what_goes_with_a_row_has_comfyuis_own_names():
    latents, concat, mask = torch.ones(4, 6, 8), torch.ones(4, 8, 8), torch.ones(1, 64, 64)
    found = References(latents=(latents, latents), concat=concat, mask=mask).conditions()
    assert [one.shape for one in found.pop("reference_latents")] == [(1, 4, 6, 8)] * 2
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "concat_latent_image": (1, 4, 8, 8), "concat_mask": (1, 1, 64, 64)}
    assert References().conditions() == {}


def test_each_row_has_its_photos_references_and_a_stack_keeps_them():
    data = edit_data()
    rows = draw_subject_rows(data, NoiseSource(schedule()), 0, 0, 2)
    assert rows.references == tuple(SHOWN[number] for number in rows.examples)
    assert rows.first().references == rows.references[:1]
    plain = draw_subject_rows(training_data(photos(count=2)), NoiseSource(schedule()), 0, 0, 2)
    assert plain.references == () and stack([plain, plain]).references == ()
    assert stack([plain, rows]).references == (None, None, *rows.references)


def test_rows_of_the_same_latents_keep_them_and_class_images_have_none():
    seen = {}

    class Watching(TinyDenoiser):
        def __call__(self, noisy, index, rows):
            seen.setdefault(len(noisy), [row.extra.get("reference_latents") for row in rows])
            return super().__call__(noisy, index, rows)

    data = edit_data(mask=torch.ones(1, 8, 8))
    objectives = (BasePrior(), ObjectSpecificLoss(), PriorPreservation())
    run = trainer(training_config(steps=1, objectives=objectives), data, denoiser=Watching())
    with run:
        next(run.steps())
    *_, most = sorted(seen)
    given = [value is not None for value in seen[most]]
    assert most == 8 and sorted(given) == [False] * 2 + [True] * 6  # class images alone are without


class Looking(TinyTextEncoder):
    """Its rows depend on the pictures, too."""

    def encode(self, prompts, vectors=None, pictures=()):
        rows = super().encode(prompts, vectors)
        return [Conditioning(row.context + (10 if shown else 0))
                for row, shown in zip(rows, pictures or [()] * len(rows), strict=True)]


def test_a_prompt_is_encoded_once_for_itself_and_once_for_each_reference_that_is_looked_at():
    encoder = Looking()
    text = TextSide(encoder, ["a", "b"], torch.device("cpu"), with_references=[("a", shown) for shown in SHOWN])
    assert encoder.encoded == {"a": 3, "b": 1}
    plain, first, other = text.rows(["a", "a", "b"], [None, SHOWN[0], None])
    assert torch.allclose(first.context, plain.context + 10) and not torch.equal(plain.context, other.context)
    assert torch.equal(text.base_rows(["a"], [SHOWN[1]])[0].context, first.context)
    blind = References(latents=SHOWN[0].latents)
    assert torch.equal(text.rows(["a"], [blind])[0].context, plain.context)


def test_every_text_that_may_stand_beside_a_reference_is_known_before_the_run():
    data = edit_data()
    known = data.prompts_with_references()
    assert {shown.key for _, shown in known} == {"0", "1"}
    assert {text for text, _ in known} == {*data.examples[0].prompts(), *data.class_prompts.values()}
    blind = data.with_references([[References(latents=shown.latents)] for shown in SHOWN])
    assert blind.prompts_with_references() == ()


def test_a_later_data_option_enters_a_key_only_where_it_is_on():
    assert "inpaint_masks" not in DataOptions(flip=True).key_fields()
    assert DataOptions(inpaint_masks=True).key_fields()["inpaint_masks"] is True
