"""The evidence bench: its subjects and prompts, its measures on true pictures, its statistics, its report."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_clip import tiny_clip

from comfyui_personalize.benchmarks.evidence import (
    bench,
    dci_settings,
    field,
    intervals,
    measures,
    pairs,
    report,
    samples,
    tables,
    two_objects,
)
from comfyui_personalize.benchmarks.evidence.claims import (
    AT_EQUAL_FIDELITY,
    CLAIMS,
    REASONS,
    UNMEASURED,
    UPSCALER_CLAIMS,
    Claim,
)
from comfyui_personalize.benchmarks.evidence.methods import METHODS, QUICK
from comfyui_personalize.benchmarks.evidence.pictures import read_pictures, write_pictures
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.evaluation.metrics import coarse_distance
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.training.config import TrainingConfig
from comfyui_personalize.pocket.subjects import class_noun, photo_in


def true_pictures(number: int) -> tuple[torch.Tensor, list[bench.Prompt]]:
    """Renders of a subject in every place that the bench asks for."""
    asked = [prompt for prompt in bench.PROMPTS if prompt.kind == "recontextualization"]
    pictures = [torch.from_numpy(photo_in(number, prompt.context).pixels.copy()) for prompt in asked]
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
    assert bench.case(0, noun="").subject.caption == "a sks" and bench.case(0, noun="").named == ""
    assert bench.case(0, noun="house").named == "house" and bench.case(0).named == class_noun(0)
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


def test_an_accessory_prompt_counts_place_and_hat_alike():
    seen = {"context": torch.zeros(2, 11), "colour": torch.full((2, 8), 0.125), "hat": torch.tensor([0.2, 0.2])}
    seen["context"][:, 1] = 1  # snow
    hatted = bench.Prompt("a {V} {noun} wearing a hat in the snow", "accessory", "snow")
    bare = bench.Prompt("a {V} {noun} in the snow", "recontextualization", "snow")
    assert measures.alignment(seen, [hatted, bare]) == pytest.approx((0.6 + 1) / 2)
    found = measures.accuracies(seen, [hatted, bare])
    assert (found["context"], found["hat"], found["attribute"]) == (1.0, 0.0, 0.0) and math.isnan(found["colour"])


def test_true_pictures_with_a_hat_pass_as_such_and_bare_ones_do_not():
    pictures = torch.stack([torch.from_numpy(photo_in(number, wears_hat=wears_hat).pixels.copy())
                            for wears_hat in (True, False) for number in range(6)]).movedim(-1, 1).float() / 255
    hats = measures.answers(pictures)["hat"]
    assert float(hats[:6].mean()) > 0.8 and float(hats[6:].mean()) < 0.2


def test_overfitting_is_the_photos_places_where_none_is_asked_for():
    seen = {"context": torch.zeros(2, 11)}
    seen["context"][0, 1], seen["context"][1, 2] = 1, 1  # snow, beach
    assert measures.place_share(seen, ("snow", "snow")) == 0.5 and measures.place_share(seen, ("snow", "beach")) == 1


def test_the_true_pictures_of_a_wrongly_named_subject_are_judged_by_what_it_is():
    shown, (pictures, asked) = bench.case(0, noun="house"), true_pictures(0)
    made = measures.Pictures(prompted=pictures, plain=pictures, classes=pictures)
    found = measures.measure(made, shown.pictures, pictures, shown, asked)
    assert found["class"] == 1.0 and found["noun"] > 0.8 and found["drift"] == pytest.approx(0, abs=1e-6)
    assert found["context"] == 1.0 and found["fidelity"] > 0.7


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


def test_seeds_of_a_subject_are_one_unit():
    assert intervals.subject_means([(3, 1.0), (1, 2.0), (3, 3.0), (4, math.nan)]) == {1: 2.0, 3: 2.0}
    once = cells_of({"dreambooth": 0.1, "dreambooth_without_prior": 0.4}, seeds=1)
    twice = cells_of({"dreambooth": 0.1, "dreambooth_without_prior": 0.4}, seeds=2)
    one, two = (tables.paired(cells, CLAIMS[0]) for cells in (once, twice))
    assert one.count == two.count == 6 and one.mean == pytest.approx(two.mean)
    assert (one.low, one.high) == pytest.approx((two.low, two.high))


def test_intervals_of_eight_normal_units_hold_the_truth_about_as_often_as_they_say():
    samples_of_eight = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)).tolist()
    kept = [found for values in samples_of_eight if (found := intervals.estimate(values))]
    held = sum(found.low <= 0 <= found.high for found in kept) / len(kept)
    assert 0.91 < held < 0.99
    assert intervals.expanded(10_000) == pytest.approx(0.95, abs=1e-3) and intervals.expanded(8) > 0.98


def test_curves_are_compared_where_they_reach_the_same_fidelity():
    first, second = [(0.2, 0.0), (0.6, 0.4)], [(0.3, 0.5), (0.5, 0.7), (0.8, 1.0)]
    assert intervals.at_equal_fidelity(first, second) == pytest.approx(0.4 - 0.8)
    assert intervals.at_equal_fidelity(first, first) == 0
    assert math.isnan(intervals.at_equal_fidelity([(0.1, 0.0), (0.2, 1.0)], [(0.3, 0.0), (0.4, 1.0)]))


@pytest.mark.parametrize(("low", "high", "expected", "said"), [
    (0.1, 0.3, 1, "supported"), (0.1, 0.3, -1, "contradicted"), (-0.1, 0.3, 1, "undecided"),
    (math.nan, math.nan, 1, "too few")])
def test_a_verdict_follows_from_the_interval_alone(low, high, expected, said):
    assert intervals.verdict(intervals.Estimate(0.2, low, high, 5), expected) == said


def test_the_t_tests_p_is_scipys_and_few_or_equal_differences_have_none():
    assert intervals.chance_of([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(0.0132, abs=1e-4)
    assert math.isnan(intervals.chance_of([0.1, 0.2])) and math.isnan(intervals.chance_of([0.0] * 6))


def test_holm_corrects_each_p_for_all_and_leaves_the_untested_out():
    """Four tested: 4 x 0.01, 3 x 0.02, 2 x 0.03 raised to the one before, 1 x 0.04 likewise."""
    assert intervals.holm([0.03, math.nan, 0.01, 0.04, 0.02])[::2] == pytest.approx([0.06, 0.04, 0.06])
    assert intervals.holm([0.5, 0.9]) == [1.0, 1.0] and math.isnan(intervals.holm([math.nan])[0])


@pytest.mark.parametrize(("corrected", "said"), [(0.04, "supported"), (0.06, "undecided"), (math.nan, "undecided")])
def test_a_claim_is_supported_only_where_it_outlives_the_correction_for_all_claims(corrected, said):
    found = tables.Finding(CLAIMS[0], intervals.Estimate(-0.4, -0.5, -0.3, 5), 0.001, corrected)
    assert found.verdict == said


def test_every_reason_belongs_to_a_claim_of_some_page():
    texts = {claim.text for claim in (*CLAIMS, *UPSCALER_CLAIMS, *dci_settings.CLAIMS)}
    assert set(REASONS) <= texts


def test_the_published_page_says_what_the_generator_says():
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert page.startswith(report.INTRODUCTION)
    assert all(f"| {claim.text} |" in page or f"not in these cells: {claim.text} " in page for claim in CLAIMS)
    assert all(text in page for text in UNMEASURED)


def test_every_claim_compares_methods_that_exist_in_a_measure_that_is_reported():
    for claim in CLAIMS:
        assert {claim.first, claim.second} <= METHODS.keys()
        assert claim.measure.removesuffix(AT_EQUAL_FIDELITY) in report.MEASURES
    assert set(QUICK) <= METHODS.keys()


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_is_a_valid_run(method):
    words = () if method.vectors is None else (method.vectors,)
    config = TrainingConfig(steps=method.steps, options=method.options, objectives=method.objectives,
                            learning_rate=method.learning_rate, batch=method.batch, resolution=96, token_vectors=words)
    assert TrainingConfig.from_dict(config.to_dict()) == config


def test_the_manual_prompt_learns_icos_word_as_ico_does():
    ico, manual = METHODS["ico"], METHODS["ico_manual_prompt"]
    contexts = ico.objectives[0]
    assert isinstance(contexts, LearnedContexts) and manual.vectors is not None
    assert contexts.identifier_rate_factor is not None and manual.caption is not None
    assert manual.vectors.count == contexts.identifier_vectors and manual.vectors.start_text == bench.IDENTIFIER
    assert manual.vectors.learning_rate == ico.learning_rate * contexts.identifier_rate_factor
    assert bench.case(0, caption=manual.caption).subject.caption == f"a photo of a sks {class_noun(0)}"


def cells_of(drifts, seeds=1, subjects=6):
    """Synthetic cells of two checkpoints; a seed moves a subject's figure up and down around the same mean."""
    def point(steps, drift):
        return {"steps": steps, "fidelity": 0.3 + steps / 100, "alignment": 0.9, "noun": 1.0, "class": 1.0,
                "context": 0.9, "colour": 0.8, "hat": 0.7, "attribute": 0.75, "copying": 0.0, "overfitting": 0.1,
                "drift": drift, "diversity": 0.2}

    return {(name, number, seed): {"checkpoints": [
        point(5, drift / 2), point(10, drift + 0.01 * number + 0.05 * (-1) ** seed * (seeds > 1))]}
        for name, drift in drifts.items() for number in range(subjects) for seed in range(seeds)}


def test_a_claim_at_equal_fidelity_reads_the_curves_between_checkpoints():
    cells = cells_of({"dreambooth": 0.0, "dreambooth_without_prior": 0.4})
    for key in cells:
        if key[0] == "dreambooth":
            cells[key]["checkpoints"][1]["fidelity"] = 0.375  # the other has 0.35 and 0.40 there
    claim = Claim("", "", "dreambooth", "dreambooth_without_prior", "drift" + AT_EQUAL_FIDELITY, -1)
    found = tables.difference(cells["dreambooth", 0, 0], cells["dreambooth_without_prior", 0, 0], claim.measure)
    assert found == pytest.approx(0.0 - 0.3) and tables.paired(cells, claim).high < 0


def test_a_method_with_fewer_subjects_is_marked_and_its_claims_use_the_shared_ones():
    cells = cells_of({"lora": 0.1}) | cells_of({"lora_prior": 0.0}, subjects=5)
    assert f"{METHODS['lora_prior'].title} {tables.FEWER} |" in tables.methods_table(cells)
    assert f"{METHODS['lora'].title} {tables.FEWER}" not in tables.methods_table(cells)
    claim = Claim("", "", "lora_prior", "lora", "drift", -1)
    assert tables.paired(cells, claim).count == 5 and tables.paired(cells, claim).mean == pytest.approx(-0.1)


def test_a_claim_that_fails_has_a_reason_or_says_that_none_is_known():
    cells = cells_of({"dreambooth": 0.5, "dreambooth_without_prior": 0.1})
    said = tables.reasons(tables.correct(tables.findings(cells)))
    assert "*contradicted*, prior preservation reduces drift: no reason is known." in said
    assert "*undecided*, prior preservation keeps diversity: both methods have the same figure" in said


def test_super_resolution_has_claims_by_its_own_subjects():
    found = tables.upscaler_findings()
    assert len(found) == len(UPSCALER_CLAIMS) and all(each.difference.count == 8 for each in found)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """A random CLIP."""
    return field.load_encoders(str(tiny_clip(tmp_path_factory.mktemp("encoders") / "clip")))


def test_the_field_measures_see_a_copy_of_the_photos_as_most_alike(encoders):
    photos = bench.case(0).pictures[:1].repeat(5, 1, 1, 1)
    asked, noise = bench.PROMPTS[:5], torch.rand(5, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    copies, others = (field.field_measures(measures.Pictures(rows, rows, rows), photos, "dog", asked, encoders)
                      for rows in (photos, noise))
    assert copies["CLIP-I"] == pytest.approx(1, abs=1e-4) and others["CLIP-I"] < 0.999
    assert -1 <= copies["CLIP-T"] <= 1 and "DINO" not in copies
    if "KID" in copies:
        assert copies["KID"] < others["KID"]
    assert encoders.names == {"CLIP": "clip"}


def test_dino_and_lpips_add_their_measures_and_a_missing_folder_is_refused(encoders, tmp_path):
    rows = bench.case(0).pictures
    pictures = measures.Pictures(prompted=rows, plain=rows, classes=rows)
    both = replace(encoders, dino=encoders.clip, lpips=coarse_distance)
    found = field.field_measures(pictures, rows, "robot", bench.PROMPTS[:5], both)
    assert found["DINO"] == found["CLIP-I"] and found["LPIPS"] == pytest.approx(measures.diversity(rows), abs=1e-5)
    with pytest.raises(InputError, match="none"):
        field.load_encoders(str(tmp_path / "none"))


def test_the_digest_of_encoders_follows_their_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = field.digest_of([tmp_path, None])
    assert first == field.digest_of([tmp_path, None])
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert first != field.digest_of([tmp_path, None])


def test_field_figures_are_kept_until_pictures_or_encoders_change(encoders, tmp_path, monkeypatch):
    write_cell(tmp_path, "lora")
    key = ("lora", 0, 0)
    first = field.field_of_cells([key, ("lora", 1, 0)], tmp_path, encoders)
    assert list(first) == [key]
    monkeypatch.setattr(field, "field_measures", lambda *_: {"CLIP-I": 0.5})
    assert field.field_of_cells([key], tmp_path, encoders) == first
    assert field.field_of_cells([key], tmp_path, replace(encoders, digest="other"))[key] == {"CLIP-I": 0.5}


def write_cell(folder, name):
    """A cell's pictures: photos of a subject in place of made ones."""
    photos = bench.case(0).pictures
    rows = photos.repeat(5, 1, 1, 1)
    drawn = [measures.Pictures(prompted=rows, plain=rows[:8], classes=rows[:8])] * 2
    write_pictures(folder / f"{name}-0-0.npz", photos, photos, drawn)


def test_pictures_come_back_from_disk_as_they_were(tmp_path):
    write_cell(tmp_path, "lora")
    references, base, drawn = read_pictures(tmp_path / "lora-0-0.npz")
    assert torch.equal(references, bench.case(0).pictures) and torch.equal(references, base)
    assert len(drawn) == 2 and drawn[1].prompted.shape == (25, 3, 96, 96)


def test_a_sample_sheet_has_a_row_per_method_and_stays_small(tmp_path):
    write_cell(tmp_path, "lora")
    write_cell(tmp_path, "ico")
    sheet = samples.sample_sheet(tmp_path, ["lora", "ico", "dreambooth"], 0)
    assert samples.sample_sheet(tmp_path, ["dreambooth"], 0) is None and len(sheet) < samples.LARGEST
    with Image.open(io.BytesIO(sheet)) as opened:
        assert opened.height == 3 * samples.SIZE + samples.HEADER
    assert len(samples.headers()) == len(samples.chosen_of(tmp_path / "lora-0-0.npz"))
    assert {bench.PROMPTS[place].kind for place in samples.CHOSEN} == {prompt.kind for prompt in bench.PROMPTS}


def test_a_blind_page_compares_two_methods_and_refuses_one_without_pictures(tmp_path):
    write_cell(tmp_path, "lora")
    write_cell(tmp_path, "ico")
    page = pairs.write_pairs(tmp_path, ["lora", "ico"], 0, tmp_path / "pairs.html").read_text(encoding="utf-8")
    assert f"a {class_noun(0)} in the snow" in page and "a sks" not in page and METHODS["ico"].title not in page
    with pytest.raises(InputError, match="dreambooth"):
        pairs.write_pairs(tmp_path, ["lora", "dreambooth"], 0, tmp_path / "pairs.html")


def test_two_objects_are_found_apart_in_drawn_pictures_of_two_alone():
    two, one = two_objects.drawn(seed=3)
    asked = two_objects.wanted()
    assert two_objects.shares(two_objects.nouns_of(two), asked)[0] > 0.6
    assert two_objects.shares(two_objects.nouns_of(one), asked)[0] < 0.1


def test_the_report_is_one_page_without_other_files(tmp_path):
    cells = cells_of({"dreambooth": 0.0, "dreambooth_without_prior": 0.3})
    write_cell(tmp_path, "dreambooth")
    sheet = samples.sample_sheet(tmp_path, ["dreambooth"], 0)
    assert sheet is not None
    views = {key: dict.fromkeys(("noun", "context", "colour", "hat", "identity", "same subject", "same noun"), 0.9)
             for key in ("raw", "through the autoencoder")}
    extras = report.Extras(card=views, samples={0: sheet}, encoders={"CLIP": "pocket"},
                           of_field={("dreambooth", 0, 0): {"CLIP-I": 0.5, "CLIP-T": 0.2}})
    markdown, page = report.write_report(cells, tmp_path, {"subjects": 6}, "make evidence", extras=extras)
    text, html = markdown.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    assert "| prior preservation reduces drift | DreamBooth" in text and "-0.300" in text and "supported" in text
    assert "not in these cells: prior preservation reduces drift of a LoRA" in text and "| hat | 0.900 |" in text
    assert "CLIP-I" in text and "concept map m^c, finest scale" in text and "low noise beats no fine-tuning" in text
    assert html.count("<img src='data:image/") == text.count("](evidence") == 4
    assert "http" not in html.replace("http-equiv", "") and "src='evidence" not in html
    for name in ("evidence.png", "evidence_bars.png", "evidence_claims.png", "evidence_samples_0.jpg"):
        assert 5000 < (tmp_path / name).stat().st_size < 300_000
    assert len((tmp_path / "evidence.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * len(cells)
