"""Writes the samples beside this file with the code as it is: see README.md, and run it only for a new format.

    python tests/samples/write_samples.py <folder>
"""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "nodes")]


def main(target: Path) -> None:
    """Train each graph twice: the short run is kept, of the long one the result."""
    for conftest in (TESTS / "conftest.py", TESTS / "nodes" / "conftest.py"):  # the package, then ComfyUI
        runpy.run_path(str(conftest))
    import torch

    with torch.inference_mode():
        _write(target)


def _write(target: Path) -> None:
    import folder_paths
    import torch
    from run_node import run_node
    from sample_graphs import LONG, SHORT, class_images, keys, noun_evidence, trained_graphs
    from tiny_model import tiny_checkpoint, tiny_models
    from trainer_rig import train

    from comfyui_personalize.nodes.save_personalization import SavePersonalization

    models = tiny_models()
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("loras", "embeddings"):
            (target / kind).mkdir(parents=True)
            folder_paths.folder_names_and_paths[kind] = ([str(target / kind)], folder_paths.supported_pt_extensions)
        folder_paths.output_directory = scratch
        class_images(models)
        score = noun_evidence(models)
        for name, inputs in trained_graphs(models).items():
            result = train(models, **inputs, steps=SHORT, run_name=name)[5]
            run_node(SavePersonalization, personalization=result, name=f"sample/{name}")
        shutil.copytree(Path(scratch) / "personalize", target / "personalize")
        for name, inputs in trained_graphs(models).items():
            train(models, **inputs, steps=LONG, run_name=name)
            for kind in ("adapter", "words"):
                for file in (Path(scratch) / "personalize" / name).glob(f"{kind}-{LONG:06d}.safetensors"):
                    (target / "expected").mkdir(exist_ok=True)
                    shutil.copy(file, target / "expected" / f"{name}-{kind}.safetensors")
        (target / "keys.json").write_text(json.dumps(keys(models), indent=1, sort_keys=True) + "\n")
        (target / "noun_evidence.json").write_text(json.dumps({"score": score}) + "\n")
        drawn = torch.randn(4096, generator=torch.Generator().manual_seed(0)).numpy().tobytes()
        (target / "machine.json").write_text(json.dumps({
            "normal_draws": hashlib.sha256(drawn).hexdigest(),
            "tiny_checkpoint": hashlib.sha256(tiny_checkpoint().read_bytes()).hexdigest(),
        }, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
