"""The example of a cluster is one that Ray's launcher takes."""

import json
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import yaml

from comfyui_personalize.tools.install_comfyui import ROOT


def test_the_example_fits_the_launchers_schema():
    ray = find_spec("ray")  # not imported: Ray reads its environment then
    assert ray is not None and ray.origin is not None
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((ROOT / "fleet" / "cluster.yaml").read_text()), schema)
