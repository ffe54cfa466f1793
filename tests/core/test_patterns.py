"""A user's regular expressions: matched as `re` matches them, and never for long."""

from __future__ import annotations

import re
import threading
import time

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig, find_all_targets
from comfyui_personalize.core.patterns import LONGEST, matching

from .tiny_unet import tiny_unet

PATHS = ["input_blocks.1.1.transformer_blocks.0.attn2.to_out.0", "double_blocks.18.img_attn.qkv", "text.a{e}b",
         "[x]:alpha.to_q", "mid", ""]
ORDINARY = [r".*attn[12]\.(to_q|to_k)", r"output_blocks\..*attn2\.to_[kv]", "mid", r"(.*\.)?\w*attn\w*\.qkv", "^in|b$",
            r"blocks\.\d{1,2}\.", "(?i)MID", r"(?!.*attn).*", r"(\w)\w*\1", "a{e}", "a{e<=1}", "[a&&b]", "x{}",
            r"\{e\}", "[{e}]b", "[[x]", ""]
BOUND = 20.0
"""Seconds of the own thread; without a limit it would be hours."""
FOR_EVER = [r"(\w+\.?)+!", r"(\w+\.?)+[!?]", r"(\w+\.?)+(!|\?)", r"((\w|\w\w)*\.?)*[!?]"]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("pattern", ORDINARY)
def test_an_expression_matches_what_re_matches(pattern, whole):
    match = re.compile(pattern).fullmatch if whole else re.compile(pattern).search
    assert matching("target_pattern", [pattern], PATHS, whole=whole)[pattern] == [p for p in PATHS if match(p)]


@pytest.mark.parametrize(("pattern", "message"), [
    ("(" * 3000, f"3,000 characters, expected at most {LONGEST:,}"),
    ("(" * 900, "cannot be read"),
    ("a{99999999999999999999}", "cannot be read"),
    ("a{999999999}", "whose counts {...} multiply"),
    ("(?:(?:(?:a{1000}){1000}){1000}){1000}", "whose counts {...} multiply"),
    (r"\p{L}", "cannot be read"),  # `regex` could
    ("(?R)", "cannot be read"),
    ("[[:alpha:]]", "sets without [:name:]"),
])
@pytest.mark.parametrize("widget", ["target_pattern", "block_ranks"])
def test_an_expression_without_bounds_is_refused_in_a_moment(pattern, message, widget):
    start = time.thread_time()
    inputs = {"targets": pattern} if widget == "target_pattern" else {"block_ranks": f"{pattern}=4"}
    with pytest.raises(InputError) as refusal:
        AdapterConfig(**inputs)
    assert str(refusal.value).startswith(f"{widget}: got") and message in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert time.thread_time() - start < BOUND


@pytest.mark.parametrize("pattern", FOR_EVER)
@pytest.mark.parametrize("widget", ["target_pattern", "block_ranks"])
def test_an_expression_that_re_matches_for_ever_is_refused_within_seconds(pattern, widget):
    start = time.thread_time()
    with pytest.raises(InputError, match=f"^{widget}: got "):
        config = AdapterConfig(**({"targets": pattern} if widget == "target_pattern"
                                  else {"block_ranks": f"{pattern}=4"}))
        find_all_targets({"unet": tiny_unet()}, {"unet": config})
    assert time.thread_time() - start < BOUND


def test_a_slow_expression_says_so():
    with pytest.raises(InputError, match=r"target_pattern: got .*, which takes longer than 1 s to match, expected"):
        matching("target_pattern", [r"(\w|\w\w)*[!?]"], ["a" * 200], whole=True)


def test_the_limit_counts_for_all_texts_together():
    start = time.thread_time()
    with pytest.raises(InputError, match="longer than 1 s"):
        matching("block_ranks", [r"(\w|\w\w)*[!?]"], [f"{'a' * 24}{number}" for number in range(5000)], whole=False)
    assert time.thread_time() - start < BOUND


def test_a_busy_thread_beside_costs_an_expression_nothing():
    """Its limit is the own thread's time: what others compute meanwhile does not refuse a quick expression."""
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
    busy.start()
    try:
        paths = [f"blocks.{i}.attn2.to_q" for i in range(3000)]
        found = matching("targets", [r"(.*\.)?attn2\.to_q"], paths, whole=True)
    finally:
        stop.set()
        busy.join()
    assert found[r"(.*\.)?attn2\.to_q"] == paths


@pytest.mark.parametrize("rank", ["9" * 5000, "²", "١٢٣٤٥٦", "100000"])
def test_a_rank_that_is_no_small_number_is_refused(rank):
    with pytest.raises(InputError, match="block_ranks: got .*expected entries such as .* a rank of 0 to 99,999"):
        AdapterConfig(block_ranks=f"middle={rank}")


def test_block_ranks_without_end_are_refused_in_a_moment():
    start = time.thread_time()
    with pytest.raises(InputError, match="block_ranks: got a text of 1,000,000 characters"):
        AdapterConfig(block_ranks="," * 1_000_000)
    assert time.thread_time() - start < BOUND
