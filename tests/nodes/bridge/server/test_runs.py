"""The routes to kept runs list, tell, rename and delete by ids, show users their own, and touch nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from comfy.cli_args import args
from server import PromptServer

from comfyui_personalize.core.store.run_list import list_runs
from comfyui_personalize.core.store.run_notes import keep_thumbnail, note_run, read_about
from comfyui_personalize.core.store.runs import Run, only_here, open_run, run_key
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.nodes.bridge.server import runs as routes
from comfyui_personalize.nodes.bridge.server.runs import RUN_ROUTES, means

KEYS = [run_key({"seed": seed}) for seed in range(3)]
RATES = {"base_lrs": [0.1], "_last_lr": [0.1], "last_epoch": 7, "_step_count": 8}
STATE = {"step": 7, "losses": [0.5, 1e-17, *[0.25] * 5], "lr_scheduler": RATES,
         "optimizer": {"param_groups": [], "entries": {}}}
CONFIG = TrainingConfig(steps=7, options=TrainingOptions(keep_every=5))
ADAPTER = {"identifiers": ["sks"], "class_nouns": ["dog"], "captions": ["a sks dog"], "base_model_hash": "m",
           "text_encoder_hash": "t", "exposure": "often", "readers": "ComfyUI", "steps": 7, "config": CONFIG.to_dict()}
GRAPH = {"prompt": {"1": {}}, "workflow": {"nodes": []}}


def make_run(root: Path, name: str, number: int, user: str = "") -> Run:
    run = open_run(root, name, KEYS[number])
    for step in (5, 7):
        run.save_adapter(step, {"x": torch.zeros(2)}, ADAPTER | {"steps": step})
    run.save_state(7, {"x": torch.zeros(2)}, STATE)
    note_run(run.folder, "sd15.safetensors", user, GRAPH)
    keep_thumbnail(run.folder, b"jpeg")
    return run


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A store of one run."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    make_run(tmp_path / "personalize", "dog", 0)
    return tmp_path / "personalize"


@pytest.fixture
def users(monkeypatch) -> None:
    """A server that tells users apart, and knows everyone but eve."""
    def find(request: web.Request) -> str:
        if request.headers.get("comfy-user", "eve") == "eve":
            raise KeyError("Unknown user")
        return request.headers["comfy-user"]

    monkeypatch.setattr(args, "multi_user", True)
    server = SimpleNamespace(user_manager=SimpleNamespace(get_request_user_id=find))
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)


def asked(path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and answer, as JSON where it is."""
    async def ask() -> tuple[int, Any]:
        app = web.Application()
        app.add_routes(RUN_ROUTES)
        async with TestClient(TestServer(app)) as client:
            method = "GET" if body is None else "POST"
            answer = await client.request(method, "/personalize/runs" + path, json=body, headers=headers)
            return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.read())

    return asyncio.run(ask())


def ids(**headers: str) -> dict[str, str]:
    return {run["name"]: run["run"] for run in asked("", **headers)[1]["runs"]}


def test_a_run_is_listed_with_all_that_the_list_shows(root):
    status, answer = asked("")
    (entry,) = answer["runs"]
    assert status == 200 and {name: entry[name] for name in ("name", "loads", "class_nouns", "identifiers", "steps")} \
        == {"name": "dog", "loads": "run: dog", "class_nouns": ["dog"], "identifiers": ["sks"], "steps": [5, 7]}
    assert (entry["base_model"], entry["trained"], entry["has_graph"]) == ("sd15.safetensors", 7, True)
    assert entry["size"] == sum(path.stat().st_size for path in (root / "dog").iterdir())
    assert entry["thumbnail"] > 0 and not entry["is_training"] and str(root) not in str(answer)


def test_an_empty_store_is_an_empty_list(root):
    asked("/delete", {"run": ids()["dog"]})
    assert asked("")[1]["runs"] == []


def test_a_run_is_told_with_its_settings_and_losses(root):
    status, run = asked(f"/{ids()['dog']}")
    assert status == 200 and run["losses"] == STATE["losses"] and run["last_step"] == 7
    said = {name: run["settings"][name] for name in ("captions", "learning_rate", "rank", "keep_every", "objectives")}
    assert said == {"captions": "a sks dog", "learning_rate": 1e-4, "rank": 16, "keep_every": 5,
                    "objectives": "photos alone"}


def test_graph_and_thumbnail_come_back(root):
    run = ids()["dog"]
    assert asked(f"/{run}/graph") == (200, GRAPH)
    assert asked(f"/{run}/thumbnail?of=1") == (200, b"jpeg")
    (root / "dog" / "graph.json").unlink()
    (root / "dog" / "thumbnail.jpg").unlink()
    assert asked(f"/{run}/graph")[0] == asked(f"/{run}/thumbnail?of=1")[0] == 404


def test_a_renamed_run_has_its_new_id_and_its_notes(root):
    status, entry = asked("/rename", {"run": ids()["dog"], "name": "Rex"})
    assert status == 200 and entry["name"] == "Rex" and ids() == {"Rex": entry["run"]}
    assert asked(f"/{entry['run']}/graph")[0] == 200 and not (root / "dog").exists()


def test_a_deleted_run_is_gone_and_the_others_are_not(root):
    make_run(root, "cat", 1)
    assert asked("/delete", {"run": ids()["dog"]}) == (200, {"deleted": "dog"})
    assert list(ids()) == ["cat"] and [run.name for run in list_runs(root)] == ["cat"]


@pytest.mark.parametrize("change", ["/rename", "/delete"])
def test_a_run_that_trains_is_not_changed_and_the_list_says_that_it_trains(root, change):
    run = ids()["dog"]
    with only_here(root, "dog", KEYS[0]):
        status, answer = asked(change, {"run": run} | ({"name": "Rex"} if change == "/rename" else {}))
        assert asked("")[1]["runs"][0]["is_training"]
    assert status == 400 and "trains at the moment" in answer["error"]["message"] and list(ids()) == ["dog"]


@pytest.mark.parametrize("run", ["dog", "../personalize/dog", "/etc", "", "." * 9, "a" * 500, "é"])
@pytest.mark.parametrize("change", ["/rename", "/delete", "/open"])
def test_a_name_or_a_path_is_no_id(root, change, run):
    before = sorted(path.name for path in root.iterdir())
    status, _ = asked(change, {"run": run} | ({"name": "Rex"} if change == "/rename" else {}))
    assert status == 404 and sorted(path.name for path in root.iterdir()) == before


@pytest.mark.parametrize("name", ["../x", "", "a/b", "CON", ".x"])
def test_a_run_is_not_renamed_to_what_is_no_name(root, name):
    status, answer = asked("/rename", {"run": ids()["dog"], "name": name})
    assert status == 400 and answer["error"]["name"] == "name" and list(ids()) == ["dog"]


@pytest.mark.parametrize("change", ["/rename", "/delete", "/open"])
def test_a_strangers_page_changes_nothing(root, change):
    body = {"run": ids()["dog"]} | ({"name": "Rex"} if change == "/rename" else {})
    assert asked(change, body, Origin="http://evil.example")[0] == 403
    assert asked(change, body, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert asked(f"{change}")[0] in (404, 405) and list(ids()) == ["dog"]


# Users


def test_users_see_their_own_runs_and_those_of_nobody(root, users):
    for number, user in ((1, "ann"), (2, "ben")):
        make_run(root, f"{user}s", number, user)
    assert set(ids(**{"Comfy-User": "ann"})) == {"dog", "anns"}
    bens = ids(**{"Comfy-User": "ben"})["bens"]
    for path, body in ((f"/{bens}", None), (f"/{bens}/graph", None), (f"/{bens}/thumbnail?of=1", None),
                       ("/delete", {"run": bens}), ("/rename", {"run": bens, "name": "x"}), ("/open", {"run": bens})):
        assert asked(path, body, **{"Comfy-User": "ann"})[0] in (400, 404)
    assert set(ids(**{"Comfy-User": "ben"})) == {"dog", "bens"}


def test_an_unknown_user_sees_nothing_and_changes_nothing(root, users):
    assert asked("")[0] == 400
    status, answer = asked("", **{"Comfy-User": "eve"})
    assert status == 400 and answer["error"]["name"] == "user"


def test_a_run_of_two_users_leaves_the_list_of_the_one_who_deletes_it(root, users):
    run = make_run(root, "both", 1, "ann")
    note_run(run.folder, "", "ben", GRAPH)
    assert asked("/delete", {"run": ids(**{"Comfy-User": "ann"})["both"]}, **{"Comfy-User": "ann"})[0] == 200
    assert "both" not in ids(**{"Comfy-User": "ann"}) and read_about(run.folder).users == ("ben",)
    assert asked("/delete", {"run": ids(**{"Comfy-User": "ben"})["both"]}, **{"Comfy-User": "ben"})[0] == 200
    assert not run.folder.exists()


# The folder


@pytest.mark.parametrize(("headers", "is_here"), [
    ({}, True), ({"Host": "localhost:8188"}, True), ({"Host": "[::1]:8188"}, True),
    ({"Host": "evil.example:8188"}, False), ({"X-Forwarded-For": "8.8.8.8"}, False), ({"Forwarded": "for=x"}, False),
    ({"Host": "192.168.0.7:8188"}, False)])
def test_a_folder_opens_for_whoever_sits_at_this_machine(root, monkeypatch, headers, is_here):
    opened: list[Path] = []
    monkeypatch.setattr(routes, "show_folder", opened.append)
    status, answer = asked("/open", {"run": ids()["dog"]}, **headers)
    assert asked("", **headers)[1]["can_open"] is is_here
    assert (status, opened) == ((200, [root / "dog"]) if is_here else (400, []))
    assert is_here or answer["error"]["name"] == "client"


def test_a_machine_without_a_file_manager_says_so(root, monkeypatch):
    monkeypatch.setattr(routes.shutil, "which", lambda _: None)
    status, answer = asked("/open", {"run": ids()["dog"]})
    assert status == 400 and "without a file manager" in answer["error"]["message"]


def test_a_curve_has_at_most_two_hundred_points_and_keeps_the_mean():
    losses = [float(number) for number in range(1001)]
    curve = means(losses)
    assert len(curve) == 167 and curve[0] == 2.5 and curve[-1] == sum(losses[996:]) / 5
    assert means(losses[:200]) == losses[:200] and means([]) == []
