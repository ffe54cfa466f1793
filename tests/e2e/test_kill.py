"""A server that dies while it trains loses at most the steps since the last save, and nothing of the result."""

from __future__ import annotations

from comfyui_personalize.tests.e2e.conftest import training
from comfyui_personalize.tests.e2e.test_cancel import wait_for

STEPS = 40


def adapter(server, run: str) -> bytes:
    """The finished adapter's file."""
    return (server.base / "output" / "personalize" / run / f"adapter-{STEPS:06d}.safetensors").read_bytes()


def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(server, new_server):
    graph = training("killed", steps=STEPS)
    server.client.run(graph)
    victim = new_server()
    victim.client.queue(graph)
    state = victim.base / "output" / "personalize" / "killed" / "state.safetensors"
    wait_for(state.exists)
    victim.kill()
    assert not (state.parent / f"adapter-{STEPS:06d}.safetensors").exists(), "it was too late to kill it"

    victim.start()
    outputs = victim.client.run(graph)
    (report,) = (output["text"][0] for output in outputs.values() if "trained" in str(output.get("text")))
    assert "resumed" in report or "from step" in report, report
    assert adapter(victim, "killed") == adapter(server, "killed")
