"""The index: failures first, every subject once, texts as texts."""

from __future__ import annotations

import csv
import io

from PIL import Image

from comfyui_personalize.fleet import page
from comfyui_personalize.fleet.jobs import Job
from comfyui_personalize.fleet.page import Index
from comfyui_personalize.fleet.storage import Storage


def job(name, **settings):
    return Job(name=name, photos="", staged="", graphs=(), prompts=(), settings=settings, steps=3, pictures=())


def index(tmp_path, jobs, records):
    store = Storage(str(tmp_path))
    Index(store, "night <1>", jobs).write(records)
    rows = list(csv.reader(io.StringIO(store.read("results.csv").decode("utf-8-sig"))))
    return store.read("index.html").decode(), rows


def done(tmp_path, name):
    (tmp_path / name / "pictures").mkdir(parents=True)
    Image.new("RGB", (300, 200), "teal").save(tmp_path / name / "pictures" / "01-01.png")
    return {"status": "done", "seconds": 4.5, "files": [f"{name}.safetensors"], "report": "fine",
            "pictures": [{"file": "pictures/01-01.png", "prompt": 'a "zkz" <dog>'}],
            "figures": [{"figures": {"CLIP-I": {"mean": 0.75}}}]}


def test_failures_come_first_and_what_waits_is_there_too(tmp_path):
    records = {"good": done(tmp_path, "good"), "bad": {"status": "failed", "message": "photos: <none>"}}
    html, rows = index(tmp_path, [job("good"), job("later"), job("bad")], records)
    assert [row[0] for row in rows] == ["subject", "bad", "later", "good"]
    assert [row[1] for row in rows[1:]] == ["failed", "waiting", "done"]
    assert html.index(">bad<") < html.index(">later<") < html.index(">good<")
    assert "1 failed, 1 waiting, 1 done" in html


def test_a_long_index_is_not_written_after_every_job(tmp_path, monkeypatch):
    made, clock, written = Index(Storage(str(tmp_path)), "night", [job("a")]), [100.0], []
    monkeypatch.setattr(page.time, "monotonic", lambda: clock[0])

    def write(records):
        written.append(clock[0])
        clock[0] += 2.0  # seconds that it takes

    monkeypatch.setattr(made, "write", write)
    for clock[0] in (100.0, 103.0, 139.0, 140.0, 150.0):
        made.keep_up({})
    assert written == [100.0, 140.0]


def test_texts_are_shown_as_texts(tmp_path):
    records = {"good": done(tmp_path, "good"), "bad": {"status": "failed", "message": "photos: <none>"}}
    html, _ = index(tmp_path, [job("good"), job("bad")], records)
    assert "photos: &lt;none&gt;" in html and "<none>" not in html
    assert "a &quot;zkz&quot; &lt;dog&gt;" in html and "night &lt;1&gt;" in html


def test_a_thumbnail_is_made_once_and_is_small(tmp_path):
    records = {"good": done(tmp_path, "good")}
    index(tmp_path, [job("good")], records)
    thumbnail = tmp_path / "good" / "thumbnails" / "01-01.jpg"
    assert Image.open(thumbnail).size == (192, 128)
    before = thumbnail.stat().st_mtime_ns
    index(tmp_path, [job("good")], records)
    assert thumbnail.stat().st_mtime_ns == before


def test_figures_and_settings_are_columns_and_no_cell_is_a_formula(tmp_path):
    records = {"good": done(tmp_path, "good"), "bad": {"status": "failed", "message": "=1+1"}}
    _, rows = index(tmp_path, [job("good", rank=4), job("bad", rank=8)], records)
    assert rows[0] == ["subject", "status", "steps", "seconds", "rank", "CLIP-I", "files", "message"]
    assert rows[1] == ["bad", "failed", "3", "", "8", "", "", "'=1+1"]
    assert rows[2] == ["good", "done", "3", "4.5", "4", "0.75", "good.safetensors", ""]


def test_a_picture_that_is_gone_stands_for_its_thumbnail_and_the_page_is_written(tmp_path):
    records = {"good": done(tmp_path, "good")}
    (tmp_path / "good" / "pictures" / "01-01.png").unlink()
    html, _ = index(tmp_path, [job("good")], records)
    assert 'src="good/pictures/01-01.png"' in html
