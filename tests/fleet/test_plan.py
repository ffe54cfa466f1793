"""A plan is checked as a whole; whatever is wrong is named, each row by its place."""

from __future__ import annotations

import json

import pytest
from fleet_rig import photo, write_plan

from comfyui_personalize.fleet import command
from comfyui_personalize.fleet.command import main
from comfyui_personalize.fleet.errors import PlanError
from comfyui_personalize.fleet.jobs import make_jobs
from comfyui_personalize.fleet.plan import read_plan
from comfyui_personalize.tools.install_comfyui import ROOT


def jobs_of(path):
    return make_jobs(read_plan(path), path.parent, ROOT)


def problems(path):
    with pytest.raises(PlanError) as caught:
        jobs_of(path)
    return caught.value.problems


def test_a_folder_of_folders_is_a_subject_each_in_the_order_of_names(tmp_path):
    for name in ("rex", "bello"):
        photo(tmp_path / "rows" / name / "1.png")
    (tmp_path / "rows" / "rex" / "subject.yaml").write_text("noun: cat\nidentifier: zkz\n")
    bello, rex = jobs_of(write_plan(tmp_path))
    assert (bello.name, rex.name) == ("bello", "rex")
    nouns = [job.graphs[0]["7"]["inputs"]["class_noun"] for job in (bello, rex)]
    assert nouns == ["dog", "cat"]
    assert rex.graphs[0]["7"]["inputs"]["identifier"] == "zkz"


def test_a_csv_line_holds_prompts_and_values_by_title_and_input(tmp_path):
    photo(tmp_path / "photos" / "1.png")
    (tmp_path / "rows.csv").write_text("name,photos,noun,prompts,Personalize Trainer / steps\n"
                                       "rex,photos,dog,a {V} {noun} | my {V} dog,7\n")
    (job,) = jobs_of(write_plan(tmp_path, subjects="rows.csv"))
    assert job.prompts == ("a {V} dog", "my {V} dog")
    assert [graph["12"]["inputs"]["steps"] for graph in job.graphs] == [7, 7]
    assert [graph["13"]["inputs"]["string"] for graph in job.graphs] == list(job.prompts)


def test_jsonl_rows_are_read(tmp_path):
    photo(tmp_path / "photos" / "1.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"name": "rex", "photos": "photos", "noun": "dog"}) + "\n\n")
    assert [job.name for job in jobs_of(write_plan(tmp_path, subjects="rows.jsonl"))] == ["rex"]


def test_every_bad_row_is_named(tmp_path):
    photo(tmp_path / "photos" / "1.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text(
        "name,photos,noun,identifier,prompts,Nobody / steps\n"
        "rex,photos,dog,,,\n"
        "rex,photos,dog,,,\n"
        "a,nowhere,dog,,,\n"
        "b,empty,dog,two words,no place for it,\n"
        "c/d,photos,dog,,,\n"
        "e,photos,dog,,,3\n"
        ",photos,dog,,,\n")
    said = problems(write_plan(tmp_path, subjects="rows.csv"))
    for part in ("line 3: name: got 'rex'", "line 4: photos: got", "line 5: photos: got", "line 6: name: got 'c/d'",
                 "line 8: name: got nothing"):
        assert sum(part in sentence for sentence in said) == 1, (part, said)
    assert not any("line 2" in sentence.split("(")[0] for sentence in said)


def test_titles_that_no_node_has_are_named_with_those_there_are(tmp_path):
    (sentence,) = problems(write_plan(tmp_path, overrides={"Trainer": {"steps": 3}}))
    assert "'Trainer'" in sentence and "Personalize Trainer" in sentence
    (sentence,) = problems(write_plan(tmp_path, overrides={"Personalize Trainer": {"stepz": 3}}))
    assert "'stepz'" in sentence and "steps" in sentence


def test_a_sweep_is_a_job_for_each_combination(tmp_path):
    sweep = {"Training Options / rank": [4, 8], "Personalize Trainer / steps": [10, 20]}
    jobs = jobs_of(write_plan(tmp_path, sweep=sweep))
    assert [job.name for job in jobs] == [f"rex--rank-{rank}--steps-{steps}" for rank in (4, 8) for steps in (10, 20)]
    assert [(job.graphs[0]["11"]["inputs"]["rank"], job.steps) for job in jobs] == [(4, 10), (4, 20), (8, 10), (8, 20)]


@pytest.mark.parametrize(("fields", "part"), [
    ({"workflow": "99"}, "workflow: got '99'"),
    ({"outpt": "x"}, "outpt: got 'x', expected: no such field"),
    ({"workers": {"count": 0}}, "workers.count"),
    ({"version": 2}, "version: got 2"),
    ({"subjects": "nowhere"}, "expected a csv or jsonl file, or a folder"),
    ({"sweep": {"steps": [1]}}, "sweep: got 'steps'"),
    ({"prompt": "Nobody"}, "prompt: got 'Nobody', which leaves 0 texts"),
])
def test_a_wrong_field_is_named(tmp_path, fields, part):
    path = write_plan(tmp_path, **fields)
    with pytest.raises(PlanError) as caught:
        jobs_of(path)
    assert any(part in sentence for sentence in caught.value.problems), caught.value.problems


def test_an_editors_workflow_is_refused_with_the_way_to_the_api_form(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"nodes": [], "links": []}))
    assert "Export (API)" in problems(write_plan(tmp_path, workflow="mine.json"))[0]


def test_the_command_refuses_before_anything_starts(tmp_path, capsys):
    assert main(["run", str(write_plan(tmp_path, workflow="99"))]) == 2
    assert "nothing was started" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_the_jobs_and_starts_nothing(tmp_path, capsys):
    assert main(["run", str(write_plan(tmp_path)), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "rex: " in said and "200 steps" in said and "unknown before the first result" in said
    assert not (tmp_path / "out").exists()


def test_workers_of_a_cluster_take_gpus_that_this_machine_does_not_have(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "gpu_count", lambda: 0)
    plan = read_plan(write_plan(tmp_path, workers={"gpus": 2}))
    assert command.gpus_of(plan, address="auto") == 2.0 and command.gpus_of(plan, address=None) == 0.0
