"""What a node tells its user reaches the frontend: a text on the node, and a pop-up for each warning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from comfyui_personalize.nodes.bridge import notices


def fake_server(sent):
    return SimpleNamespace(client_id="me", send_progress_text=lambda *message: sent.append(message),
                           send_sync=lambda *message: sent.append(message))


def test_text_and_warnings_go_to_the_client_that_queued(monkeypatch, caplog):
    sent = []
    monkeypatch.setattr(notices.PromptServer, "instance", fake_server(sent), raising=False)
    notices.show_notice("7", "two photos", ["odd word"])
    assert sent == [("two photos\nWarning: odd word", "7", "me"),
                    (notices.EVENT, {"node": "7", "text": "odd word"}, "me")]
    assert "odd word" in caplog.text


def test_without_a_server_warnings_are_logged(monkeypatch, caplog):
    monkeypatch.setattr(notices.PromptServer, "instance", None, raising=False)
    notices.show_notice("7", "two photos", ["odd word"])
    assert caplog.messages == ["odd word"]


def test_the_frontend_listens_to_the_event():
    script = Path(notices.__file__).parents[2] / "web" / "warnings.js"
    assert f'"{notices.EVENT}"' in script.read_text()
