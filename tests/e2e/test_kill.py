"""A server that dies while it trains loses at most the steps since the last save, and nothing of the result."""

from __future__ import annotations

import shutil

from comfyui_personalize.tests.e2e.conftest import changed, training
from comfyui_personalize.tests.e2e.test_cancel import wait_for

STEPS = 24


def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(server):
    graph, result = training("killed", steps=STEPS), f"adapter-{STEPS:06d}.safetensors"
    runs = server.base / "output" / "personalize"
    server.client.queue(graph)
    wait_for((runs / "killed" / "state.safetensors").exists)
    server.kill()
    assert not (runs / "killed" / result).exists(), "it was too late to kill it"

    server.start()
    outputs = server.client.run(graph)
    (report,) = (output["text"][0] for output in outputs.values() if "trained" in str(output.get("text")))
    assert "resumed" in report or "from step" in report, report
    resumed = (runs / "killed" / result).read_bytes()

    shutil.rmtree(runs / "killed")  # a run is found again under any name
    server.client.run(changed(graph, "PersonalizeTrainer", run_name="uninterrupted"))
    assert (runs / "uninterrupted" / result).read_bytes() == resumed
