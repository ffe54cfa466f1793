"""comfy-cli as the client: it runs a workflow in either form against the server."""

from __future__ import annotations

import json
import os
import subprocess
from urllib.parse import urlparse

from comfyui_personalize.tests.e2e.conftest import workflow
from comfyui_personalize.tools.install_comfyui import CLI_VENV


def test_comfy_cli_runs_workflow_one(server, tmp_path):
    command = CLI_VENV / "bin" / "comfy"
    assert command.exists(), "comfy-cli is missing: run `make setup`"
    (tmp_path / "graph.json").write_text(json.dumps(workflow(1)))
    address = urlparse(server.client.address)
    arguments = ["--skip-prompt", "--json", "run", "--workflow", "graph.json", "--host", str(address.hostname),
                 "--port", str(address.port), "--wait", "--timeout", "600"]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "DO_NOT_TRACK": "1"}
    done = subprocess.run([command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          timeout=700)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert "pocket_dog_dreambooth" in json.dumps(answer)
