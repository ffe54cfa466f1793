"""The DCI bench: its settings, what they cost, its figures by subject, its pages and its auxiliary nouns."""

from __future__ import annotations

import numpy
import pytest
import torch
from PIL import Image

from comfyui_personalize.benchmarks.evidence import (
    bench,
    dci_charts,
    dci_figures,
    dci_nouns,
    dci_pictures,
    dci_report,
    dci_settings,
    dci_values,
)
from comfyui_personalize.benchmarks.evidence.claims import AREA
from comfyui_personalize.core.dci.config import DCIConfig
from comfyui_personalize.core.training.config import TrainingConfig
from comfyui_personalize.pocket.subjects import NOUNS


def cells(*gains: tuple[str, float], subjects: int = 5) -> dict:
    """Cells whose alignment is 0.3, and more by a setting's gain; subjects differ alike in all of them."""
    return {(name, subject, 0): {"alignment": 0.3 + gain + 0.01 * subject, "fidelity": 0.7, "places": 0.3,
                                 "noun": 0.9} for name, gain in gains for subject in range(subjects)}


def test_settings_have_names_of_their_own_and_claims_are_about_them():
    for settings in (dci_settings.SWEEP, dci_settings.FIGURES):
        names = [setting.name for setting in settings]
        assert len(set(names)) == len(names)
    known = {setting.name for setting in dci_settings.FIGURES} | dci_settings.CURVES.keys()
    for claim in dci_settings.CLAIMS:
        assert {claim.first, claim.second} <= known and claim.measure in dci_report.MEASURES


def test_the_sweep_changes_one_factor_at_a_time_around_the_published_settings():
    assert DCIConfig(omega=1.0, window=0.3, sharpening="published") == dci_settings.PUBLISHED
    near = [setting for setting in dci_settings.SWEEP if setting.config and not setting.name.startswith("wide")]
    changed = [sum(getattr(setting.config, name) != getattr(dci_settings.PUBLISHED, name)
                   for name in vars(dci_settings.PUBLISHED)) for setting in near]
    assert sorted(changed) == [0] + [1] * (len(near) - 1)


@pytest.mark.parametrize("setting", [*dci_settings.SWEEP, *dci_settings.FIGURES], ids=lambda setting: setting.name)
def test_every_setting_is_trained_by_a_valid_run_on_one_photo(setting):
    method = setting.method
    words = () if method.vectors is None else (method.vectors,)
    config = TrainingConfig(steps=setting.trained, options=method.options, objectives=method.objectives,
                            learning_rate=method.learning_rate, batch=method.batch, resolution=96, token_vectors=words)
    assert TrainingConfig.from_dict(config.to_dict()) == config and method.photos == 1


@pytest.mark.parametrize(("changes", "rows"), [({}, 28), ({"window": 1.0}, 36), ({"window": 0.0}, 24),
                                               ({"shared_guidance": False}, 32)])
def test_rows_are_two_per_step_and_the_auxiliary_branchs_inside_the_window(changes, rows):
    assert dci_settings.dci("x", "x", **changes).rows == rows


def test_plain_sampling_at_equal_rows_has_as_many_as_dci():
    rows = {setting.name: setting.rows for setting in dci_settings.FIGURES}
    assert abs(rows["rows"] - rows["dci"]) <= 1 and rows["plain"] < rows["dci"]


def test_prompts_are_the_benchs_and_ask_for_places_and_a_colour():
    assert set(dci_settings.ASKED) <= set(bench.PROMPTS)
    assert all(prompt.context for prompt in dci_settings.ASKED)
    assert any(prompt.colour for prompt in dci_settings.ASKED)


def test_a_difference_pairs_subjects_and_skips_those_that_one_side_lacks():
    found = cells(("dci", 0.2), ("plain", 0.0))
    assert dci_values.difference(found, "dci", "plain", "alignment").mean == pytest.approx(0.2)
    del found["plain", 4, 0]
    assert dci_values.difference(found, "dci", "plain", "alignment").count == 4


def test_the_area_of_a_curve_needs_all_of_its_checkpoints():
    names = dci_settings.CURVES["raw model"]
    found = cells(*((name, 0.1 * place) for place, name in enumerate(names)))
    assert dci_values.values(found, "raw model", AREA)[0] == pytest.approx(0.7 * (0.3 + 0.1 * (len(names) - 1)))
    del found[names[0], 0, 0]
    assert 0 not in dci_values.values(found, "raw model", AREA)


def test_the_sweeps_page_names_what_is_better_beyond_the_interval(tmp_path):
    page = dci_report.write_defaults(cells(("plain", 0.0), ("published", 0.01), ("window_1", 0.3)), tmp_path, "make x")
    text = page.read_text(encoding="utf-8")
    assert "`make x`" in text and "beyond the interval: window 1." in text and "+0.290" in text


def test_the_figures_page_has_claims_with_verdicts_and_a_chart(tmp_path):
    found = cells(*((setting.name, 0.2 if setting.config else 0.0) for setting in dci_settings.FIGURES))
    text = dci_report.write_evidence(found, tmp_path, "make x").read_text(encoding="utf-8")
    assert "| DCI raises alignment |" in text and "+0.200 [+0.200, +0.200]" in text and "supported" in text
    assert (tmp_path / "dci_evidence.png").stat().st_size > 10_000 and "All claims were run." in text


def test_a_claim_without_cells_is_named_as_not_run():
    found = cells(("plain", 0.0), ("dci", 0.2))
    assert "DCI raises alignment;" not in dci_report.not_run(found)
    assert "in the last layer only it is worse" in dci_report.not_run(found)


def test_charts_can_be_drawn_of_what_is_there_before_all_is(tmp_path):
    assert dci_charts.draw_charts(cells(("plain", 0.0), ("dci", 0.1), subjects=2))[:4] == b"\x89PNG"


def test_the_random_noun_is_another_of_the_worlds_and_the_same_again():
    found = [dci_nouns.random_noun("robot", 3, prompt) for prompt in dci_settings.ASKED]
    assert found == [dci_nouns.random_noun("robot", 3, prompt) for prompt in dci_settings.ASKED]
    assert set(found) <= set(NOUNS) - {"robot"} and len(set(found)) > 1


@pytest.mark.parametrize(("own", "other"), [("robot", "cat"), ("cat", "dog")])
def test_the_first_noun_is_common_and_not_the_subjects(own, other):
    assert dci_nouns.first_noun(own) == other


def test_figures_of_the_subjects_own_photos_are_faithful():
    shown = bench.case(0)
    count = len(dci_settings.ASKED) * dci_settings.SEEDS
    pictures = shown.pictures[torch.arange(count) % len(shown.pictures)]
    found = dci_figures.figures(pictures, shown.pictures, shown)
    assert found["fidelity"] > 0.7 and found["noun"] > 0.8 and 0 <= found["alignment"] <= 1


def test_the_sheet_has_two_rows_per_subject_that_has_both_settings(tmp_path):
    pictures = numpy.zeros((len(dci_settings.ASKED) * dci_settings.SEEDS, 3, 96, 96), numpy.uint8)
    for name in ("plain-8-0", "dci-8-0", "plain-9-0"):
        numpy.savez(tmp_path / f"{name}.npz", pictures=pictures)
    assert dci_pictures.write_sheet(tmp_path, tmp_path / "sheet.jpg")
    assert Image.open(tmp_path / "sheet.jpg").size == (96 * len(dci_settings.ASKED) * dci_pictures.SHOWN, 2 * 96)
    assert not dci_pictures.write_sheet(tmp_path, tmp_path / "none.jpg", first="other")
