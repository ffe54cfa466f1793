"""The evidence bench: its subjects and prompts, its measures on true pictures, its statistics, its report."""

from __future__ import annotations

import math

import pytest
import torch

from comfyui_personalize.benchmarks.evidence import bench, intervals, measures, report
from comfyui_personalize.benchmarks.evidence.claims import CLAIMS
from comfyui_personalize.benchmarks.evidence.methods import METHODS, QUICK
from comfyui_personalize.core.config import TrainingConfig
from comfyui_personalize.pocket.world import render, subject_scenes, with_context


def true_pictures(number: int) -> tuple[torch.Tensor, list[bench.Prompt]]:
    """Renders of a subject in every place that the bench asks for."""
    asked = [prompt for prompt in bench.PROMPTS if prompt.kind == "recontextualization"]
    scene = next(iter(subject_scenes(number, 1)))
    pictures = [torch.from_numpy(render(with_context(scene, prompt.context))[0].copy()) for prompt in asked]
    return torch.stack(pictures).movedim(-1, 1).float() / 255, asked


def test_held_in_and_held_out_subjects_are_eight_each_and_disjoint():
    assert len(bench.HELD_IN) == len(bench.HELD_OUT) == 8 and not set(bench.HELD_IN) & set(bench.HELD_OUT)


def test_there_are_25_different_prompts_and_each_names_the_subject():
    texts = {prompt.text("sks", "dog") for prompt in bench.PROMPTS}
    assert len(texts) == 25 and all("sks dog" in text for text in texts)


def test_a_case_has_photos_masks_and_the_places_they_were_taken_in():
    shown = bench.case(0)
    assert len(shown.subject.photos) == len(shown.contexts) == 5 and shown.pictures.shape == (5, 3, 96, 96)
    assert all(photo.mask is not None and 0.02 < float(photo.mask.mean()) < 0.6 for photo in shown.subject.photos)
    assert bench.case(0, noun="").subject.caption == "a sks"
    assert bench.case(0, noun="house").subject.class_noun == "house"


def test_true_pictures_of_the_subject_are_faithful_and_aligned_and_others_are_not():
    pictures, asked = true_pictures(0)
    own, other = (measures.answers(bench.case(number).pictures)["identity"] for number in (0, 1))
    seen = measures.answers(pictures)
    assert measures.alignment(seen, asked) > 0.9
    assert measures.cosine(seen["identity"], own) > 0.7 > 0.5 > measures.cosine(seen["identity"], other)


def test_copying_counts_photos_places_where_others_were_asked_for():
    contexts = torch.zeros(2, 11)
    contexts[:, 1] = 1  # snow
    asked = [bench.Prompt("a {V} {noun} on the beach", "recontextualization", "beach"),
             bench.Prompt("a {V} {noun} in the snow", "recontextualization", "snow")]
    assert measures.copying(contexts, asked, ("snow",)) == 1.0
    assert measures.copying(contexts, asked, ("night",)) == 0.0


def test_equal_pictures_have_no_diversity():
    assert measures.diversity(torch.full((3, 3, 96, 96), 0.4)) == pytest.approx(0, abs=1e-6)
    assert measures.diversity(torch.stack([torch.zeros(3, 96, 96), torch.ones(3, 96, 96)])) == pytest.approx(1)


@pytest.mark.parametrize(("points", "area"), [
    ([(1, 1)], 1.0), ([(0.5, 0.5)], 0.25), ([(0.5, 1), (1, 0.5)], 0.75), ([(0.5, 1), (0.4, 0.9)], 0.5),
    ([(-1, 1)], 0.0), ([], 0.0)])
def test_the_frontiers_area_is_what_its_points_dominate(points, area):
    assert intervals.frontier_area(points) == pytest.approx(area)


def test_an_interval_holds_the_mean_and_shrinks_with_more_units():
    few, many = (intervals.estimate([float(number % 4) for number in range(count)]) for count in (8, 400))
    assert few.low < few.mean < few.high and many.high - many.low < few.high - few.low
    assert math.isnan(intervals.estimate([1.0, 2.0]).low) and intervals.estimate([2.0] * 5).high == 2.0


@pytest.mark.parametrize(("low", "high", "expected", "said"), [
    (0.1, 0.3, 1, "supported"), (0.1, 0.3, -1, "contradicted"), (-0.1, 0.3, 1, "undecided"),
    (math.nan, math.nan, 1, "too few")])
def test_a_verdict_follows_from_the_interval_alone(low, high, expected, said):
    assert intervals.verdict(intervals.Estimate(0.2, low, high, 5), expected) == said


def test_every_claim_compares_methods_that_exist_in_a_measure_that_is_reported():
    for claim in CLAIMS:
        assert {claim.first, claim.second} <= METHODS.keys() and claim.measure in report.MEASURES
    assert set(QUICK) <= METHODS.keys()


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_is_a_valid_run(method):
    words = () if method.vectors is None else (method.vectors,)
    config = TrainingConfig(steps=method.steps, options=method.options, objectives=method.objectives,
                            learning_rate=method.learning_rate, batch=method.batch, resolution=96, token_vectors=words)
    assert TrainingConfig.from_dict(config.to_dict()) == config


def test_the_report_is_one_page_without_other_files(tmp_path):
    figures = {"steps": 10, "fidelity": 0.5, "alignment": 0.9, "noun": 1.0, "copying": 0.0, "drift": 0.1,
               "diversity": 0.2}
    cells = {(name, number, 0): {"checkpoints": [figures | {"drift": drift + 0.01 * number}]}
             for name, drift in (("dreambooth", 0.0), ("dreambooth_without_prior", 0.3)) for number in range(5)}
    markdown, page = report.write_report(cells, tmp_path, {"subjects": 5}, "make evidence")
    text, html = markdown.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    assert "| prior preservation reduces drift | DreamBooth" in text and "-0.300" in text and "supported" in text
    assert "<img src='data:image/png;base64," in html and "http" not in html.replace("http-equiv", "")
    assert (tmp_path / "evidence.png").stat().st_size > 5000
