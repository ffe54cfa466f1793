"""The example of a cluster is one that Ray's launcher takes."""

import json
from pathlib import Path

import jsonschema
import ray
import yaml

from comfyui_personalize.tools.install_comfyui import ROOT


def test_the_example_fits_the_launchers_schema():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((ROOT / "fleet" / "cluster.yaml").read_text()), schema)
