"""SIGKILL for a whole server, as the out-of-memory killer does it, while it trains over HTTP; then it is started again
and gets the same graph."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..comfyui_server import GraphFailed
from .record import Result
from .servers import Graph, WatchedServer, pruned, with_inputs, workflow

TITLE = "Kills of a server"
CLAIM = "A server that is killed while it trains ends the same graph, once started again, with the same bytes."
RUNS = {"full": 10, "quick": 1, "small": 0}
STEPS = 60
GRAPHS = {"LoRA with class images": 1, "Textual Inversion": 6}


def trials(size: str) -> list[str]:
    """A killed server each."""
    return [f"{name} {number}" for number in range(RUNS[size]) for name in GRAPHS]


def graph_of(name: str) -> Graph:
    """A workflow up to its saved personalization."""
    graph = with_inputs(workflow(GRAPHS[name]), "PersonalizeTrainer", steps=STEPS, run_name="killed")
    ends = [key for key, node in graph.items() if node["class_type"] == "PersonalizeSave"]
    return pruned(graph, *ends)


def files(base: Path) -> dict[str, bytes]:
    """What the run leaves."""
    folders = (base / "output" / "personalize", base / "models" / "loras", base / "models" / "embeddings")
    return {str(path.relative_to(base)): path.read_bytes() for folder in folders
            for path in folder.rglob("*") if path.is_file() and path.suffix not in (".lock", ".tmp")}


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """One killed server."""

    @functools.cache
    def undisturbed(name: str) -> tuple[dict[str, bytes], float]:
        shutil.rmtree(work / "undisturbed", ignore_errors=True)
        with WatchedServer(work / "undisturbed") as server:
            start = time.monotonic()
            server.client.run(graph_of(name), timeout=300)
            return files(server.base), time.monotonic() - start

    def trial(identity: str) -> Result:
        name = identity.rpartition(" ")[0]
        wanted, seconds = undisturbed(name)
        shutil.rmtree(work / "base", ignore_errors=True)
        result, server = Result(), WatchedServer(work / "base")
        try:
            server.start()
            server.client.queue(graph_of(name))
            time.sleep(random.Random(identity).uniform(0.3, 0.95) * seconds)
            server.kill()
            result.counts["it had trained before the kill"] += any(server.base.rglob("state.safetensors"))
            server.start()
            server.client.run(graph_of(name), timeout=300)
            found = files(server.base)
            result.lost += [f"{path} differs" for path, data in wanted.items() if found.get(path) != data]
            result.lost += [f"{path} is left over" for path in found if path not in wanted]
        except GraphFailed as error:
            result.lost.append(str(error)[:300])
        finally:
            server.stop()
        return result

    yield trial
