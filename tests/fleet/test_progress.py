"""The live table and the JSON lines tell the same."""

from __future__ import annotations

import io
import json

from rich.console import Console

from comfyui_personalize.fleet.engine import Outcome
from comfyui_personalize.fleet.progress import JsonLines, LiveTable

TOLD = {0: {"node": "12", "step": 30, "steps": 100, "loss": 0.25}}


def lost(job):
    return Outcome(worker=0, job=job, status="lost", message="power")


def test_the_live_table_has_subject_step_and_loss_and_says_what_went_wrong():
    table = LiveTable(3)
    table.started(0, "rex")
    table.progress(TOLD)
    running = drawn(table)
    table.ended(lost("rex"), True)
    table.close()
    assert all(part in running for part in ("rex", "30 of 100", "0.25", "of 3"))
    assert "rex: lost, tried again: power" in drawn(table)


def drawn(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table._table())
    return console.file.getvalue()


def test_json_lines_tell_each_start_end_and_step():
    output = io.StringIO()
    lines = JsonLines(3, output)
    lines.started(0, "rex")
    lines.progress(TOLD)
    lines.ended(lost("rex"), False)
    started, progress, ended = map(json.loads, output.getvalue().splitlines())
    assert (started["event"], started["subject"]) == ("started", "rex")
    assert (progress["step"], progress["steps"], progress["loss"]) == (30, 100, 0.25)
    assert (ended["event"], ended["message"], ended["ended"], ended["of"]) == ("lost", "power", 1, 3)
