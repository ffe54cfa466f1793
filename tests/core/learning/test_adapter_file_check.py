"""Layers of adapter files are whole, whoever wrote them, or refused."""

from pathlib import Path

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter.file_check import layer_names, layers_of

PATH = Path("loras") / "dog.safetensors"


def parts(**shapes):
    return {f"lora_unet_x.{name.replace('_weight', '.weight')}": torch.zeros(shape) for name, shape in shapes.items()}


WHOLE = {
    "lora": parts(lora_up_weight=(8, 2), lora_down_weight=(2, 4), alpha=()),
    "lora resized, without alpha": parts(lora_up_weight=(8, 1), lora_down_weight=(1, 4)),
    "lora of a convolution": parts(lora_up_weight=(8, 2, 1, 1), lora_down_weight=(2, 4, 3, 3), alpha=(1,)),
    "locon": parts(lora_up_weight=(8, 2, 1, 1), lora_down_weight=(3, 4, 1, 1), lora_mid_weight=(2, 3, 3, 3)),
    "dora": parts(lora_up_weight=(8, 2), lora_down_weight=(2, 4), dora_scale=(8, 1), alpha=()),
    "peft": parts(lora_B_weight=(8, 2), lora_A_weight=(2, 4)),
    "lokr": parts(lokr_w1=(2, 2), lokr_w2_a=(4, 2), lokr_w2_b=(2, 2)),
    "loha": parts(hada_w1_a=(8, 2), hada_w1_b=(2, 4), hada_w2_a=(8, 2), hada_w2_b=(2, 4), alpha=()),
    "full": parts(diff=(8, 4), diff_b=(8,)),
    "bias alone": parts(diff_b=(8,)),
    "nothing": {},
}
BROKEN = {
    "up alone": (parts(lora_up_weight=(8, 2), alpha=()), "only alpha, lora_up.weight of the layer lora_unet_x"),
    "half of a factor": (parts(lokr_w1=(2, 2), lokr_w2=(4, 4), lokr_w2_a=(4, 2)), "lokr_w2_a of .* without its count"),
    "half of loha": (parts(hada_w1_a=(8, 2), hada_w1_b=(2, 4)), "only hada_w1_a, hada_w1_b"),
    "alpha alone": (parts(alpha=()), "only alpha"),
    "alpha of four": (parts(lora_up_weight=(8, 2), lora_down_weight=(2, 4), alpha=(4,)), r"alpha of shape \(4,\)"),
    "two ranks": (parts(lora_up_weight=(8, 2), lora_down_weight=(3, 4)), "expected one rank for both"),
    "rank 0": (parts(lora_up_weight=(8, 0), lora_down_weight=(0, 4)), "expected one rank for both"),
    "a vector": (parts(lora_up_weight=(8,), lora_down_weight=(2, 4)), "expected one rank for both"),
    "another name": (parts(lora_upp_weight=(8, 2), lora_down_weight=(2, 4)), "a tensor 'lora_unet_x.lora_upp.weight'"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_layers_are_kept_by_their_endings(kind):
    layers = layers_of(PATH, WHOLE[kind])
    assert {f"{layer}.{part}" for layer, own in layers.items() for part in own} == WHOLE[kind].keys()


@pytest.mark.parametrize("what", BROKEN)
def test_parts_that_do_not_belong_together_are_refused_by_file_and_layer(what):
    tensors, message = BROKEN[what]
    with pytest.raises(InputError, match=f"file: got {PATH}: .*{message}"):
        layers_of(PATH, tensors)


def test_the_tensors_of_a_layer_have_its_name():
    names = ["a.attn.lora_up.weight", "a.attn.lora_down.weight", "a.attn.alpha", "a.attn.dora_scale", "b.diff", "c"]
    assert layer_names(names) == {"a.attn", "b", "c"}
