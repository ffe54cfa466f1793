"""Prompts by kind, figures, the table, JSON, chart and sheet of an evaluation, with encoders whose truth is known."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.evaluation.chart import plot_chart
from comfyui_personalize.core.evaluation.figures import Made, Metrics, find_figures
from comfyui_personalize.core.evaluation.metrics import drift, image_similarity
from comfyui_personalize.core.evaluation.prompts import EXAMPLE, kinds_of, read_prompts
from comfyui_personalize.core.evaluation.report import (
    Evaluation,
    difference,
    disagreements,
    from_json,
    table,
    to_json,
)
from comfyui_personalize.core.evaluation.sheet import WIDTH, render_sheet
from comfyui_personalize.core.model.image_text import unit
from comfyui_personalize.core.subject.prompts import KINDS, fill_prompts

PROMPTS = read_prompts([EXAMPLE], "sks", "dog")
PHOTOS = [torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(9)) for _ in range(3)]


class Colours:
    """Pictures by their mean colour; a text as red when it says so, else as grey."""

    text_projection = torch.eye(3)

    def embed_images(self, pixels):
        return unit(pixels.mean((1, 2)) + 0.01)

    def embed_texts(self, prompts):
        return unit(torch.tensor([[1.0, 0.0, 0.0] if "red" in prompt else [1.0, 1.0, 1.0] for prompt in prompts]))


def draw(seed: int = 0, seeds: int = 2, reference: bool = True) -> Made:
    """Random pictures."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(len(PROMPTS), seeds, 3, 24, 24, generator=generator)
    tint = torch.rand(len(PROMPTS), 1, 3, 1, 1, generator=generator)
    classes, before = torch.rand(2, 6, 3, 24, 24, generator=generator)
    return Made(prompted=rows * tint, classes=classes, before=before if reference else None)


def evaluation(seed: int = 0, label: str = "one", metrics: Metrics | None = None, **settings) -> Evaluation:
    metrics = Metrics(image_text=Colours(), dino=Colours()) if metrics is None else metrics
    return Evaluation(label=label, identifier="sks", class_noun="dog", prompts=PROMPTS,
                      settings={"steps": 1} | settings, figures=find_figures(draw(seed), PHOTOS, PROMPTS, metrics))


def test_headings_name_kinds_and_the_papers_prompts_are_recognised_without_any():
    assert kinds_of(PROMPTS) == ("places", "properties") and len(PROMPTS) == 10
    texts = fill_prompts(KINDS["art renditions"][:2], "sks", "dog") + ("a sks dog on Mars",)
    assert kinds_of(read_prompts(texts, "sks", "dog")) == ("art renditions", "prompts")


@pytest.mark.parametrize("kind", [name for name in KINDS if "DreamBooth" not in name])
def test_every_paper_prompt_is_of_its_own_kind(kind):
    assert kinds_of(read_prompts(fill_prompts(KINDS[kind], "sks", "dog"), "sks", "dog")) == (kind,)


@pytest.mark.parametrize("text, message", [
    ("", "prompts: got no prompt"), ("a dog", "without 'sks'"), ("a asks dog", "without 'sks'"),
    ("a {V} {noun} {place}", "got {place} in"), ("a {V}\na sks", "'a sks' twice")])
def test_prompts_that_cannot_judge_are_refused(text, message):
    with pytest.raises(InputError, match=message.replace("{", r"\{")):
        read_prompts([text], "sks", "dog")


def test_the_class_prompt_is_the_same_whatever_the_identifier():
    other = read_prompts([EXAMPLE], "embedding:my_dog", "dog")
    assert [one.class_text for one in PROMPTS] == [one.class_text for one in other]
    assert other[0].text == "a embedding:my_dog dog in the snow" and PROMPTS[0].class_text == "a dog in the snow"


def test_figures_are_the_metrics_own():
    made, metrics = draw(), Metrics(image_text=Colours(), dino=Colours())
    figures = find_figures(made, PHOTOS, PROMPTS, metrics)
    fidelity = figures.present["clip_i"]
    assert fidelity.estimate.mean == pytest.approx(image_similarity(Colours(), made.all_prompted, PHOTOS), abs=1e-6)
    assert fidelity.values[3] == pytest.approx(image_similarity(Colours(), made.prompted[3], PHOTOS), abs=1e-6)
    assert figures.present["drift_clip"].estimate.mean == pytest.approx(
        drift(Colours(), made.classes, PHOTOS, made.before), abs=1e-6)
    red = next(number for number, prompt in enumerate(PROMPTS) if "red" in prompt.text)
    wanted = (Colours().embed_images(made.prompted[red].movedim(1, -1))[:, 0]).mean()
    assert figures.present["clip_t"].values[red] == pytest.approx(float(wanted), abs=1e-6)
    assert figures.fidelity is figures.present["dino"] and figures.alignment is figures.present["clip_t"]


def test_what_is_absent_is_said_with_what_to_give():
    nothing = find_figures(draw(seeds=1, reference=False), PHOTOS, PROMPTS, Metrics())
    assert nothing.present == {} and nothing.fidelity is None
    assert nothing.absent.keys() == {"CLIP-I, CLIP-T", "DINO", "KID", "diversity", "drift"}
    alone = find_figures(draw(reference=False), PHOTOS, PROMPTS, Metrics(image_text=Colours()))
    assert {"clip_i", "clip_t", "diversity_clip", "diversity_pixels", "class_likeness_clip"} <= alone.present.keys()
    assert "lpips_path" in alone.absent["diversity by LPIPS"] and "reference_model" in alone.absent["drift"]


@pytest.mark.skipif(importlib.util.find_spec("torchmetrics") is None, reason="needs torchmetrics")
def test_kid_is_there_with_an_encoder_and_two_photos():
    assert {"kid_clip", "kid_dino"} <= evaluation().figures.present.keys()
    few = find_figures(draw(), PHOTOS[:1], PROMPTS, Metrics(dino=Colours()))
    assert "kid_dino" not in few.present
    assert few.absent["KID"] == "1 photos and 20 pictures are too few: 2 of each or more"


def test_lpips_counts_where_it_is_given():
    metrics = Metrics(lpips=lambda first, second: torch.full((len(first),), 0.25))
    figures = find_figures(draw(), PHOTOS, PROMPTS, metrics)
    assert figures.present["diversity_lpips"].values == (0.25,) * 10 and "diversity by LPIPS" not in figures.absent


def test_json_comes_back_as_it_was_and_other_texts_are_refused():
    found = evaluation()
    assert from_json(to_json(found)) == found
    holed = from_json(to_json(found).replace(f"{found.figures.present['clip_i'].values[0]}", "null"))
    assert math.isnan(holed.figures.present["clip_i"].values[0])
    for text in ("", "[]", '{"format": "other"}', '{"format": "personalize evaluation 1"}', "3"):
        with pytest.raises(InputError, match="compare: got .*expected the json of another"):
            from_json(text)


def test_differences_are_paired_by_prompt_and_what_cannot_be_compared_is_said():
    one, other = evaluation(0), evaluation(1, "other", steps=2)
    change = difference(one, other, "clip_i")
    means = [each.figures.present["clip_i"].estimate.mean for each in (one, other)]
    assert change.mean == pytest.approx(means[0] - means[1]) and change.count == 10
    backwards = Evaluation(**{**vars(other), "prompts": PROMPTS[::-1]})
    assert difference(one, backwards, "clip_i").mean == pytest.approx(change.mean)
    assert difference(one, evaluation(1, metrics=Metrics()), "clip_i") is None
    assert disagreements(one, other) == ["steps 1 here and 2 there"] and disagreements(one, one) == []


def test_the_table_has_a_row_per_figure_and_a_line_per_absence():
    one = evaluation()
    text = table(one, evaluation(1, "other"))
    assert all(f"| {figure.title} |" in text for figure in one.figures.present.values())
    assert "| figure | one | other | difference | better | what it is |" in text
    assert "- no diversity by LPIPS: give" in text
    assert len({line.count("|") for line in text.splitlines() if "|" in line}) == 1
    assert table(evaluation(label="a|b")).startswith("| figure | a/b |")


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
@pytest.mark.parametrize("metrics", [None, Metrics(image_text=Colours()), Metrics(dino=Colours()), Metrics()])
def test_there_is_a_chart_whatever_is_there(metrics):
    one, other = evaluation(metrics=metrics), evaluation(1, "other")
    alone, compared = plot_chart(one), plot_chart(one, other)
    assert alone.shape == compared.shape == (1, 560, 1300, 3) and not torch.equal(alone, compared)
    assert (alone[..., 0] == alone[..., 1]).all() and (alone[..., 1] == alone[..., 2]).all()  # grey by itself


def test_without_matplotlib_the_chart_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plot_chart(evaluation(metrics=Metrics())).shape == (1, 200, 640, 3)


def test_the_sheet_shows_photos_first_and_every_prompt():
    square = [photo[:20, :20] for photo in PHOTOS]
    sheet = render_sheet("one", square, draw(), PROMPTS, "a dog")
    assert sheet.shape[0] == 1 and sheet.shape[2] == WIDTH and sheet.min() >= 0 and sheet.max() == 1
    shorter = render_sheet("one", square, Made(prompted=draw().prompted[:1], classes=torch.zeros(0, 3, 24, 24)),
                         PROMPTS[:1], "a dog")
    assert shorter.shape[1] < sheet.shape[1] / 2
    long = read_prompts(["a sks dog " + "in the snow " * 40], "sks", "dog")
    assert render_sheet("one", square, Made(prompted=draw().prompted[:1], classes=torch.zeros(0, 3, 24, 24)), long,
                      "a dog").shape[1] > shorter.shape[1]
