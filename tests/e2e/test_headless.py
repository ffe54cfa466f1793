"""The README's script trains and draws over the API, as it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

from comfyui_personalize.tests.e2e.conftest import SMALL
from comfyui_personalize.tools.install_comfyui import ROOT

PHOTOS = ROOT / "workflows" / "photos"


def script() -> str:
    """The README's only block of Python."""
    (found,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return found


def test_the_readmes_script_prints_pictures_that_exist(server, tmp_path):
    (tmp_path / "ComfyUI").symlink_to(server.base)
    (tmp_path / "my dog").mkdir()
    for photo in sorted(PHOTOS.glob("personalize_dog_*.png"))[:2]:
        shutil.copy(photo, tmp_path / "my dog")
    text = script().replace("http://127.0.0.1:8188", server.client.address)
    text = text.replace("sd_xl_base_1.0.safetensors", "pocket.safetensors")
    at = text.index("def ask(")
    shrink = (f"small = {json.dumps(SMALL)}\nfor found in graph.values():\n"
              "    found['inputs'].update(small.get(found['class_type'], {}))\n")
    done = subprocess.run([sys.executable, "-c", text[:at] + shrink + text[at:]], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("\n")[:-1]
    assert printed and all((tmp_path / line).is_file() for line in printed), done.stdout
