"""What a node tells its user reaches the frontend: a text on the node, and a pop-up for each warning."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from comfyui_personalize.nodes.bridge import notices


def fake_server(sent):
    return SimpleNamespace(client_id="me", send_progress_text=lambda *message: sent.append(message),
                           send_sync=lambda *message: sent.append(message))


def test_text_and_warnings_go_to_the_client_that_queued(monkeypatch, caplog):
    sent = []
    monkeypatch.setattr(notices.PromptServer, "instance", fake_server(sent), raising=False)
    notices.show_notice("7", "two photos", ["odd word"])
    assert sent == [("two photos  \nWarning&#58; odd word", "7", "me"),
                    (notices.EVENT, {"node": "7", "text": "odd word"}, "me")]
    assert "odd word" in caplog.text


def test_without_a_server_warnings_are_logged(monkeypatch, caplog):
    monkeypatch.setattr(notices.PromptServer, "instance", None, raising=False)
    notices.show_notice("7", "two photos", ["odd word"])
    assert caplog.messages == ["odd word"]


@pytest.mark.parametrize("text", [
    "<cat-toy>", '<a href="https://x.example">free</a>', "https://x.example/?a=1&b=2", "www.x.example", "[[a|b://c]]",
    "__LNK0__ &lt; &amp;", "**bold** _a_ `b` ~~c~~", "# 1", "1. one", "- one", "    code", "Zoë 猫 3", "\ud800"])
def test_a_text_becomes_markup_that_shows_it_and_means_nothing_more(text):
    made = notices.as_markup(text)
    assert html.unescape(made).replace("\xa0", " ") == text.replace("\ud800", "\ufffd")
    assert not re.search(r"[^\w &#;]|_", made)
    assert not made.startswith(" ") and "://" not in made and "www." not in made


def test_lines_stay_lines_as_html_and_as_markdown():
    assert notices.as_markup("a\nb") == "a  \nb"


def test_the_frontend_listens_to_the_event():
    script = Path(notices.__file__).parents[2] / "web" / "warnings.js"
    assert f'"{notices.EVENT}"' in script.read_text()


def test_a_disk_that_takes_no_picture_costs_no_result(monkeypatch, caplog):
    """What was learned is handed on; the picture is only for display."""
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notices.ui, "PreviewImage", full)
    assert notices.shown_pictures(torch.zeros(1, 8, 8, 3), None) == {}
    assert "the pictures could not be written for display: No space left on device" in caplog.text
