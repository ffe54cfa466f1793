"""A CLIP of random weights in transformers' folder format: 32 px pictures, a vocabulary of single letters and words."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WIDTH, JOINT, SIZE = 32, 16, 32
WORDS = ("a", "dog", "red", "cat", "in", "the", "snow", "sks")


def vocabulary() -> dict[str, int]:
    """Letters, letters that end a word, a few whole words, and the two special tokens at the end, as CLIP has them."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    entries = [*letters, *(f"{letter}</w>" for letter in letters), *(f"{w}</w>" for w in WORDS if len(w) > 1)]
    return {entry: i for i, entry in enumerate([*entries, "<|startoftext|>", "<|endoftext|>"])}


def merges() -> list[str]:
    """Merges that spell every word of the list, from its end to its beginning."""
    steps, known = [], set()
    for word in WORDS:
        tail = word[-1] + "</w>"
        for letter in reversed(word[:-1]):
            if letter + tail not in known:
                steps.append(f"{letter} {tail}")
            tail = letter + tail
            known.add(tail)
    return steps


def tiny_clip(folder: Path, drop: str = "", zero: str = "") -> Path:
    """Writes the folder; one tensor can be left out or zeroed."""
    from transformers import CLIPConfig, CLIPModel

    entries = vocabulary()
    for step in merges():  # what merges make on the way is in the vocabulary as well
        entries.setdefault(step.replace(" ", ""), len(entries))
    torch.manual_seed(0)
    shape = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = shape | {"vocab_size": len(entries), "bos_token_id": entries["<|startoftext|>"],
                    "eos_token_id": entries["<|endoftext|>"], "pad_token_id": entries["<|endoftext|>"]}
    vision = shape | {"image_size": SIZE, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=JOINT))
    model.save_pretrained(str(folder))
    (folder / "vocab.json").write_text(json.dumps(entries))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges()) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": SIZE},
        "crop_size": {"height": SIZE, "width": SIZE}, "do_center_crop": True, "do_resize": True, "resample": 3}))
    weights = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items() if key != drop}
    if zero:
        weights[zero] = torch.zeros_like(weights[zero])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
