"""A program is named as a reader of a file only where it reads every tensor of it."""

from __future__ import annotations

import pytest

from comfyui_personalize.core.learning.adapter import programs_for_kind, programs_for_layers
from comfyui_personalize.core.learning.adapter.kinds import SD_SCRIPTS

BLOCK = "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"


def test_every_reader_of_a_kind_reads_layers_of_blocks():
    names = [BLOCK, "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"]
    assert programs_for_layers(programs_for_kind("lora"), names) == list(programs_for_kind("lora"))


@pytest.mark.parametrize("layer", ["conv_in", "conv_out", "time_embedding_linear_1", "add_embedding_linear_2"])
def test_sd_scripts_does_not_read_a_layer_outside_the_blocks(layer):
    """Its network makes modules for transformers, residual blocks and samplers alone."""
    left = programs_for_layers(programs_for_kind("lora"), [BLOCK, f"lora_unet_{layer}.lora_up.weight"])
    assert left == [program for program in programs_for_kind("lora") if program != SD_SCRIPTS]
