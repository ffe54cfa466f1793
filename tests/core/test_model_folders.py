"""Whatever lies behind a typed path, a refusal names the widget; nothing that is found there runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from comfyui_personalize.core.errors import LONGEST_GOT, InputError
from comfyui_personalize.core.evaluation.metrics import load_image_encoder
from comfyui_personalize.core.evaluation.metrics.lpips import _read
from comfyui_personalize.core.model.image_text import load_image_text
from comfyui_personalize.core.model_folders import path_of, read_config

CONFIGS = ["[1]", "5", "null", '"clip"', "[" * 100_000, "{", "", "\x00", '{"model_type": ["clip"]}',
           '{"model_type": "KIND", "hidden_size": "many", "vision_config": 3, "text_config": []}',
           '{"model_type": "KIND", "hidden_size": -5, "num_attention_heads": 0}', '{"model_type": "KIND"}']
PATHS = ["x" * 1_000_000, "/" + "x/" * 500_000, "x" * 300, "a\x00b", "\ud800", "~nobody-of-this-name/x"]


class Touch:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("load", "name"), [(load_image_text, "path"), (load_image_encoder, "dino_path")])
def test_a_path_that_no_file_system_has_is_refused_by_the_widgets_name(path, load, name):
    with pytest.raises(InputError) as refusal:
        load(path)
    assert str(refusal.value).startswith(f"{name}: got ") and len(str(refusal.value)) < LONGEST_GOT + 500


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize(("load", "name", "kind"), [(load_image_text, "path", "clip"),
                                                    (load_image_encoder, "dino_path", "vit")])
def test_a_folder_with_any_config_is_refused_by_the_widgets_name(tmp_path, config, load, name, kind):
    (tmp_path / "config.json").write_text(config.replace("KIND", kind))
    with pytest.raises(InputError) as refusal:
        load(tmp_path)
    assert str(refusal.value).startswith(f"{name}: got ") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(("load", "kind"), [(load_image_text, "clip"), (load_image_encoder, "vit")])
def test_a_pickle_in_a_folder_is_refused_and_its_code_does_not_run(tmp_path, load, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(InputError):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"root:x:0:0:root:/root:/bin/bash\n", b"\x80\x04\x95" + b"0" * 61, b"PK"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "passwd"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content, name):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"lpips_path: got {name}, which cannot be read"):
        _read(file)


def test_a_pickle_in_a_file_of_weights_does_not_run(tmp_path):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(InputError, match=r"cannot be read \(it holds more than tensors, or is damaged\)"):
        _read(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


def test_a_path_and_a_config_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert path_of("~", "path") == Path.home() and path_of("nowhere/at/all", "path") == Path("nowhere/at/all")
    assert read_config(str(tmp_path)) == {"model_type": "clip"}


def test_a_message_repeats_what_came_up_to_a_length():
    message = str(InputError("prompt", repr("x" * 1_000_000), "a shorter text", "Cut it."))
    assert len(message) < LONGEST_GOT + 100 and "(1,000,002 characters), expected a shorter text. Cut it." in message
