"""What is wrong is said over the API, with name, got, expected and what to do; and the server goes on."""

from __future__ import annotations

import pytest
from PIL import Image

from comfyui_personalize.tests.e2e.conftest import changed, training, workflow
from comfyui_personalize.tools.comfyui_server import GraphFailed, GraphRefused


def message_of(server, graph) -> str:
    """The text with which a graph is refused or fails."""
    with pytest.raises((GraphFailed, GraphRefused)) as error:
        server.client.run(graph)
    return str(error.value)


def photo(server, name: str, picture: Image.Image) -> str:
    """A picture in the server's input folder."""
    path = server.base / "input" / name
    picture.save(path)
    return name


@pytest.mark.parametrize(("inputs", "words"), [
    ({"steps": -1}, ("steps",)),
    ({"run_name": "../elsewhere"}, ("run_name", "got", "expected")),
    ({"resolution": 100}, ("resolution", "Value 100 smaller than min of 64 (0 is automatic), or no multiple of 8")),
])
def test_a_bad_widget_is_refused_before_anything_runs(server, inputs, words):
    with pytest.raises(GraphRefused) as error:
        server.client.run(changed(training("refused"), "PersonalizeTrainer", **inputs))
    assert all(word in str(error.value) for word in words), str(error.value)
    (refused,) = error.value.node_errors.values()
    assert [each["extra_info"]["input_name"] for each in refused["errors"]] == list(inputs)  # once, where it is


def test_a_rank_above_the_layer_is_refused(server):
    message = message_of(server, changed(training("rank"), "PersonalizeTrainingOptions", rank=1000))
    assert "rank" in message and "expected" in message


def test_a_tiny_photo_is_refused(server):
    name = photo(server, "one_pixel.png", Image.new("RGB", (1, 1)))
    message = message_of(server, changed(training("tiny"), "LoadImage", image=name))
    assert "1 x 1" in message and "expected" in message


def test_an_empty_mask_is_refused(server):
    name = photo(server, "unpainted.png", Image.new("RGBA", (64, 64), (200, 30, 30, 255)))
    message = message_of(server, changed(workflow(2), "LoadImage", image=name))
    assert "mask" in message and "empty" in message


def test_an_auxiliary_noun_equal_to_the_noun_is_refused(server):
    message = message_of(server, changed(workflow(3), "DCIConditioning", auxiliary_noun="dog"))
    assert "auxiliary" in message and "dog" in message


def test_a_prompt_without_the_identifier_is_refused(server):
    message = message_of(server, changed(workflow(3), "DCIConditioning", prompt="a picture of the beach"))
    assert "prompt" in message and "expected" in message


@pytest.mark.parametrize(("name", "content"), [
    ("corrupt.safetensors", b"\xff" * 64), ("pickled.safetensors", b"\x80\x04\x95" + b"0" * 61)])
def test_a_file_that_is_none_is_refused(server, name, content):
    (server.base / "models" / "loras" / name).write_bytes(content)
    message = message_of(server, changed(workflow(4), "PersonalizeLoad", name=name))
    assert name in message or "name" in message


def test_the_server_goes_on(server):
    assert server.is_alive
    assert server.client.run(training("goes on"))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_one_photo_of_any_mode_trains(server, mode):
    picture = Image.radial_gradient("L").convert(mode)
    name = photo(server, f"any_{mode}.png", picture)
    assert server.client.run(changed(training(f"mode {mode}"), "LoadImage", image=name))


def test_a_very_large_photo_of_an_odd_shape_trains(server):
    name = photo(server, "large.png", Image.linear_gradient("L").resize((5000, 1201)).convert("RGB"))
    assert server.client.run(changed(training("large"), "LoadImage", image=name))
