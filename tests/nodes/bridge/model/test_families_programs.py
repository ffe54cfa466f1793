"""Programs that are named as readers of a family's LoRA files read them; docs/adapter_programs.md lists them.

diffusers: its loader takes the files apart, every piece fits a layer of its own network, and together they are ours.
kohya's sd-scripts: our names are those that it publishes, layer by layer.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers.loaders.lora_pipeline as loaders
import pytest
import torch
from diffusers import (
    ChromaTransformer2DModel,
    Flux2Transformer2DModel,
    QwenImageTransformer2DModel,
    WanTransformer3DModel,
    ZImageTransformer2DModel,
)
from torch import Tensor, nn

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.core.learning.adapter import AdapterConfig, find_targets, programs_for_kind
from comfyui_personalize.nodes.bridge.model.denoiser import unet_adapter_keys
from comfyui_personalize.nodes.bridge.model.families import programs_for_family
from comfyui_personalize.nodes.bridge.model.families.programs import DIFFUSERS, SD_SCRIPTS

DOCS = Path(__file__).parents[4] / "docs" / "adapter_programs.md"
HEADER = """# Which programs read a LoRA, by family

Written by `WRITE_DOCS=1 pytest tests/nodes/bridge/model/test_families_programs.py` from what the code answers. The
trainer's report and the file's own metadata name the same programs. *diffusers*: its loader takes the file apart, and
each piece fits a layer of its network (a test compares every tensor; for Stable Diffusion, SDXL and Flux.1 its
predictions). *sd-scripts*: the layers have the names that kohya's scripts publish; its programs were not run. ComfyUI
reads all of them. Where a dash stands nothing is known: use ComfyUI.

| family | ComfyUI | diffusers | sd-scripts and programs that read its files |
|---|---|---|---|
"""


WIDE = {"chroma": {"hidden_size": 3072, "num_heads": 24}, "z_image": {"dim": 768, "n_heads": 6, "n_kv_heads": 6}}


@functools.cache
def model_of(name: str) -> Any:
    """A MODEL without weights, of a width that diffusers counts on."""
    case = CASES[name]
    base = case.config(dict(case.network) | WIDE.get(name, {})).get_model(dict(case.markers), "", device="meta")
    return SimpleNamespace(model=base, get_model_object=lambda part: getattr(base, part))


def lora_of(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Our name of each layer that learns, with random down (2, in) and up (out, 2)."""
    model, generator = model_of(name), torch.Generator().manual_seed(0)
    network, keys = model.model.diffusion_model, unet_adapter_keys(model)
    found = find_targets(network, AdapterConfig(targets="attention_and_feed_forward"))
    return {keys[path]: (torch.randn(2, network.get_submodule(path).weight.shape[1], generator=generator),
                         torch.randn(network.get_submodule(path).weight.shape[0], 2, generator=generator))
            for path in found}


def file_of(layers: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """As the trainer exports it, at alpha 1 and rank 2."""
    return {f"{name}.{part}": value for name, (down, up) in layers.items() for part, value in
            {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.0)}.items()}


def theirs(name: str) -> nn.Module:
    """diffusers' network of the case's sizes, without weights."""
    heads = {"num_layers": 1, "attention_head_dim": 128, "num_attention_heads": 2}
    with torch.device("meta"):
        return {
            "qwen_image": lambda: QwenImageTransformer2DModel(**heads, joint_attention_dim=64),
            "z_image": lambda: ZImageTransformer2DModel(dim=768, n_layers=1, n_refiner_layers=1, n_heads=6,
                                                        n_kv_heads=6, cap_feat_dim=64),
            "flux2_klein": lambda: Flux2Transformer2DModel(**heads, num_single_layers=1, joint_attention_dim=64),
            "wan": lambda: WanTransformer3DModel(**heads, text_dim=64, ffn_dim=256),
            "chroma": lambda: ChromaTransformer2DModel(num_layers=1, num_single_layers=1),
        }[name]()


LOADERS = {"qwen_image": "QwenImage", "z_image": "ZImage", "flux2_klein": "Flux2", "wan": "Wan", "chroma": "Flux"}


def converted(name: str, file: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """What each layer of diffusers' network gets added, up times down, by its path."""
    found = getattr(loaders, f"{LOADERS[name]}LoraLoaderMixin").lora_state_dict(dict(file), return_alphas=True)
    tensors, alphas = (found[0], found[1] or {}) if isinstance(found, tuple) else (found, {})
    stems = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
    assert len(tensors) == 2 * len(stems), sorted(tensors)
    scale = {stem: float(alphas.get(f"{stem}.alpha", 0)) / len(tensors[f"{stem}.lora_A.weight"])
             if f"{stem}.alpha" in alphas else 1.0 for stem in stems}
    return {stem.removeprefix("transformer."): (scale[stem] * tensors[f"{stem}.lora_B.weight"],
                                                tensors[f"{stem}.lora_A.weight"]) for stem in stems}


@pytest.mark.parametrize("name", LOADERS)
def test_diffusers_takes_our_file_apart_into_layers_of_its_network_which_together_are_ours(name):
    layers, network = lora_of(name), theirs(name)
    pieces = converted(name, file_of(layers))
    for path, (up, down) in pieces.items():
        assert network.get_submodule(path).weight.shape == (len(up), down.shape[1]), path
    for layer, (down, up) in layers.items():
        whole = 0.5 * up @ down[:, :COLUMNS]
        inside = [len(its_up) for its_up, its_down in pieces.values()
                  if its_down.shape == down.shape and _is_part(its_up @ its_down[:, :COLUMNS], whole)]
        assert sum(inside) == len(whole), layer
    assert sum(len(up) for up, _ in pieces.values()) == sum(len(up) for _, up in layers.values())


COLUMNS = 8
"""So many inputs of a layer are compared: they tell its rows apart."""


def _is_part(piece: Tensor, whole: Tensor) -> bool:
    """Whether the rows of a piece stand in a matrix, one below the other."""
    first = (whole - piece[0]).abs().amax(1).argmin()
    part = whole[first:first + len(piece)]
    return part.shape == piece.shape and torch.allclose(part, piece, atol=1e-4)


BLOCKS = {  # the names of one block's layers that sd-scripts publishes, behind lora_unet_
    "chroma": r"(double_blocks_\d+_(img|txt)_(attn_(qkv|proj)|mlp_[02])|single_blocks_\d+_linear[12])",
    "lumina2": r"(layers|noise_refiner|context_refiner)_\d+_(attention_(qkv|out)|feed_forward_w[123])",
    "anima": r"(blocks_\d+_((self|cross)_attn_(q|k|v|output)_proj|mlp_layer[12])"
             r"|llm_adapter_blocks_\d+_((self|cross)_attn_(q|k|v|o)_proj|mlp_[02]))",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_layer_has_the_name_that_sd_scripts_publishes(name):
    assert [layer for layer in lora_of(name) if not re.fullmatch(f"lora_unet_{BLOCKS[name]}", layer)] == []


def test_every_family_that_a_program_is_named_for_is_tested_here():
    config = {name: type(model_of(name).model.model_config).__name__ for name in CASES}
    assert {config[name] for name in LOADERS} == DIFFUSERS and {config[name] for name in BLOCKS} == SD_SCRIPTS


def test_of_an_unknown_family_comfyui_alone_is_named():
    for kind in ("lora", "lokr"):
        programs = programs_for_family(model_of("ernie"), programs_for_kind(kind))
        assert [program.partition(":")[0] for program in programs] == ["ComfyUI"]


def row(name: str) -> str:
    programs = programs_for_family(model_of(name), programs_for_kind("lora"))
    has = [any(program.startswith(start) for program in programs) for start in ("ComfyUI", "diffusers", "kohya")]
    return f"| {CASES[name].title} | {' | '.join('yes' if one else '–' for one in has)} |"


def test_the_table_of_programs_is_what_the_code_does():
    text = HEADER + "\n".join(row(name) for name in CASES) + "\n"
    if os.environ.get("WRITE_DOCS"):
        DOCS.write_text(text, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == text, "run it with WRITE_DOCS=1"
