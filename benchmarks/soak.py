"""Whether a server that runs for days holds more and more: a mix of the gallery's workflows in one process.

    python benchmarks/soak.py [--first 20] [--last 60]

Workflows 1, 2, 3 and 6 in turn, cut down to seconds, each with another seed so that no run is found again, through
ComfyUI's own executor with its default cache. After so many jobs ComfyUI is asked to free its memory, and what is
still alive is counted: storages that the jobs made, C++'s own included, and tensors that Python knows. The command
fails where there are more after the last job than after the first count.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import gc
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = (1, 2, 3, 6)
SMALL: dict[str, dict[str, Any]] = {
    "PersonalizeTrainer": {"steps": 2, "resolution": 64, "batch": 1},
    "PriorSampleGen": {"count": 2, "size": 64, "steps": 1, "batch": 2},
    "IdentifierPicker": {"candidates": 2},
    "EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "KSampler": {"steps": 2},
}
SEEDED = ("PersonalizeTrainer", "PriorSampleGen", "KSampler")
Graph = dict[str, dict[str, Any]]


class Alive(NamedTuple):
    """What is held after so many jobs."""

    jobs: int
    storages: int
    bytes: int
    tensors: int


class Silent:
    """Stands for the server: nobody listens."""

    client_id = last_node_id = None
    sockets_metadata: dict[str, Any] = {}

    def send_sync(self, *_: Any) -> None:
        """Nothing to send to."""

    send_progress_text = send_sync


def workflow(number: int, seed: int) -> Graph:
    """A workflow of the gallery in API form, small, with a seed of its own."""
    (path,) = (ROOT / "workflows" / "api").glob(f"{number:02d} *.json")
    graph: Graph = copy.deepcopy(json.loads(path.read_text(encoding="utf-8")))
    for node in graph.values():
        node["inputs"] |= SMALL.get(node["class_type"], {})
        if node["class_type"] in SEEDED:
            node["inputs"]["seed"] = seed
    return graph


async def load_nodes() -> None:
    """Stock nodes, and this checkout among the custom ones."""
    import nodes

    await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
    if not await nodes.load_custom_node(str(ROOT), module_parent="custom_nodes"):
        raise RuntimeError(f"ComfyUI could not load {ROOT} as a custom node")


def new_executor() -> Any:
    """ComfyUI's executor, whose cache keeps the last graph's results."""
    import execution

    arguments = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
    return execution.PromptExecutor(Silent(), cache_type=execution.CacheType.CLASSIC, cache_args=arguments)


def run(executor: Any, graph: Graph, name: str) -> None:
    """One job, as the server's worker runs it. Raises: RuntimeError."""
    import execution

    valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(name, graph, None))
    if not valid:
        raise RuntimeError(f"{error} {node_errors}")
    executor.execute(graph, name, {}, outputs)
    if not executor.success:
        raise RuntimeError(str(executor.status_messages[-1]))


def free(executor: Any) -> None:
    """What ComfyUI's 'free model and node cache' does."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    executor.reset()
    gc.collect()
    comfy.model_management.soft_empty_cache()


def soak(counts: tuple[int, ...]) -> Iterator[Alive]:
    """What is held after each of `counts` jobs, with everything freed that ComfyUI frees."""
    import torch

    from comfyui_personalize.benchmarks.live_storages import LiveStorages

    executor, done = new_executor(), 0
    with LiveStorages() as live:
        for count in counts:
            for number in range(done, count):
                run(executor, workflow(WORKFLOWS[number % len(WORKFLOWS)], number), f"job {number}")
            done = count
            free(executor)
            held = live.held()
            tensors = sum(torch.is_tensor(value) for value in gc.get_objects())
            yield Alive(count, held.storages, held.bytes, tensors)


@contextmanager
def base_directory() -> Iterator[Path]:
    """An empty ComfyUI base directory with the workflows' photos, gone afterwards."""
    from comfyui_personalize.tools.comfyui_server import FOLDERS

    base = Path(tempfile.mkdtemp(prefix="personalize-soak-"))
    try:
        for folder in FOLDERS:
            (base / folder).mkdir(parents=True, exist_ok=True)
        for photo in (ROOT / "workflows" / "photos").glob("*.png"):
            shutil.copy(photo, base / "input")
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="What is still held after many jobs in one process.")
    parser.add_argument("--first", type=int, default=20, help="jobs before the first count; a multiple of 4")
    parser.add_argument("--last", type=int, default=60, help="jobs before the last count; a multiple of 4")
    options = parser.parse_args()
    from dci_sampling import start_comfyui

    start_comfyui()
    with base_directory() as base:
        import folder_paths

        folder_paths.set_output_directory(str(base / "output"))
        folder_paths.set_input_directory(str(base / "input"))
        folder_paths.set_temp_directory(str(base / "temp"))
        folder_paths.add_model_folder_path("loras", str(base / "models" / "loras"), is_default=True)
        folder_paths.add_model_folder_path("embeddings", str(base / "models" / "embeddings"), is_default=True)
        asyncio.run(load_nodes())
        found = []
        for alive in soak((options.first, options.last)):
            print(f"{alive.jobs} jobs: {alive.storages} storages of {alive.bytes / 1e6:.1f} MB made by them are held, "
                  f"{alive.tensors} tensors in Python", flush=True)
            found.append(alive)
    grown = found[-1].storages > found[0].storages or found[-1].tensors > found[0].tensors
    print("grown: not accepted" if grown else "nothing has grown: accepted")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
