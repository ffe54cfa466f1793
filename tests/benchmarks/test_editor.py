"""The page of what the extension adds to the editor."""

from __future__ import annotations

from dataclasses import fields

from comfyui_personalize.benchmarks.editor import NAMES, Figures, graph, page


def figures(server_start: float) -> Figures:
    return Figures(server_start=server_start, node_list=1.0, node_list_size=1.0, queueing=1.0, editor_start=1.0,
                   editor_requests=1.0)


def test_the_page_gives_medians_ranges_and_the_difference():
    report = page([figures(8.0), figures(9.0), figures(8.5)], [figures(9.5), figures(9.25), figures(11.0)])
    assert "| the server's start, CPU s | 8.5 (8 to 9) | 9.5 (9.25 to 11) | +1 |" in report
    assert all(name in report for name in NAMES.values()) and set(NAMES) == {field.name for field in fields(Figures)}


def test_no_two_prompts_are_alike():
    assert graph(1) != graph(2)
