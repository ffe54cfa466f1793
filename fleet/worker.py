"""One worker: a warm ComfyUI server that runs jobs, one after the other, and brings their results to the storage."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

from safetensors import safe_open

from .client import GraphFailed, GraphInterrupted, GraphRefused
from .errors import JobFailed, JobStopped, WorkerLost
from .graph import EVALUATE, FOLDER_NODE, SAVER, TRAINERS, nodes_of, title_of
from .identity import ModelHashes, code_digest, comfyui_version, hash_file, model_folders
from .server import ComfyServer, ServerDied
from .storage import Storage
from .watch import Watch

JOB_SECONDS = 7 * 24 * 3600.0
THREADS = "OMP_NUM_THREADS"
"""Ray sets it for its workers; a lone run has what its terminal had, and bits hang on it."""
FOLDERS = ("custom_nodes", "input", "models/checkpoints", "models/loras", "models/embeddings")
RESULT = "result.json"


class ComfyWorker:
    """Starts its server at once.

    Args:
        settings: plain values, so that they travel: extension, comfyui, base, python, arguments, work, output, gpus,
            threads, models.
        number: among the workers of this run; names its folders.
    """

    def __init__(self, settings: Mapping[str, Any], number: int):
        self.settings = settings
        self.work, self.extension = Path(settings["work"]), Path(settings["extension"])
        self.comfyui = Path(settings["comfyui"])
        self.base = None if settings["base"] is None else Path(settings["base"])
        self.output = Storage(settings["output"])
        self.user = self.work / "workers" / f"{_host()}-{number}"
        self._stopping = False
        self._watch: Watch | None = None
        self._server = self._started()

    @property
    def input(self) -> Path:
        """ComfyUI's input folder."""
        return (self.base or self.comfyui) / "input"

    def _started(self) -> ComfyServer:
        """A server that answers. Raises: WorkerLost."""
        (self.user / "temp").mkdir(parents=True, exist_ok=True)
        (self.work / "output").mkdir(parents=True, exist_ok=True)
        if self.base is not None:
            make_base(self.base, self.extension)
        server = ComfyServer(self.comfyui, self.settings["python"], tuple(self._arguments()), self.user / "server.log",
                             environment(self.settings["threads"]), is_guarded=True)
        try:
            server.start()
        except ServerDied as error:
            raise WorkerLost(str(error)) from None
        return server

    def _arguments(self) -> Iterator[str]:
        yield from self.settings["arguments"]
        if not self.settings["gpus"] and "--cpu" not in self.settings["arguments"]:
            yield "--cpu"
        if self.base is not None:
            yield from ("--base-directory", str(self.base))
        for option, folder in (("output", self.work / "output"), ("temp", self.user / "temp"), ("user", self.user)):
            yield from (f"--{option}-directory", str(folder))
        yield from ("--database-url", f"sqlite:///{self.user / 'comfyui.db'}")

    def describe(self) -> dict[str, Any]:
        """What must be equal among all workers."""
        hashes = ModelHashes(hash_file(self.work), model_folders(self.comfyui, self.base, self.extension))
        system = self._server.client.get("/system_stats")["system"]
        return {"extension": code_digest(self.extension), "comfyui": comfyui_version(self.comfyui),
                "torch": system.get("pytorch_version"), "threads": self.settings["threads"],
                "models": {name: hashes.of(name) for name in self.settings["models"]}}

    def progress(self) -> dict[str, Any]:
        """Of the job that runs."""
        watch = self._watch
        return {} if watch is None else watch.to_dict()

    def interrupt(self) -> None:
        """Stop the job that runs; what it learned is kept by the trainer."""
        self._stopping = True
        if self._watch is not None and self._server.is_alive:
            self._server.client.interrupt()

    def close(self) -> None:
        """End the server."""
        self._server.stop()

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job and store its results, `result.json` last: where it stands, the job is done.

        Raises:
            JobFailed, JobStopped, WorkerLost.
        """
        start, log_from = time.time(), self._log_size()
        self._stopping = False
        try:
            self.stage(job)
            outputs = [self._outputs(graph) for graph in job["graphs"]]
            result = {**self._collect(job, outputs), "seconds": round(time.time() - start, 1)}
        except (URLError, ConnectionError, ServerDied) as error:
            raise WorkerLost(f"the server of {self.user.name} does not answer: {error}") from None
        finally:
            shutil.rmtree(self.input / job["staged"], ignore_errors=True)
            self._keep_log(job["name"], log_from)
        self.output.write(f"{job['name']}/{RESULT}", json.dumps(result, indent=1).encode())
        return result

    def stage(self, job: Mapping[str, Any]) -> None:
        """Copy the photos, with captions and masks, into ComfyUI's input folder."""
        target = self.input / job["staged"]
        shutil.rmtree(target, ignore_errors=True)
        photos = Storage(job["photos"])
        for name in photos.tree():
            photos.fetch(name, target / name)

    def _outputs(self, graph: Mapping[str, Any]) -> dict[str, Any]:
        """What the graph's nodes showed."""
        if self._stopping:
            raise JobStopped("stopped")
        client = self._server.client
        try:
            with Watch(client) as self._watch:
                return client.outputs(client.queue(graph), JOB_SECONDS, is_alive=lambda: self._server.is_alive)
        except GraphInterrupted:
            raise (JobStopped("stopped") if self._stopping else JobFailed("cancelled on the server")) from None
        except GraphFailed as error:
            raise JobFailed(f"{error.node_type}: {error.exception_message}") from None
        except GraphRefused as error:
            raise JobFailed(refusal(graph, error)) from None
        finally:
            self._watch = None

    def _collect(self, job: Mapping[str, Any], outputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Store adapter, pictures, report and figures; what `result.json` says of them."""
        name, graph = job["name"], job["graphs"][0]
        pictures = [self._picture(job, number, count, entry) for number, shown in enumerate(outputs)
                    for count, entry in enumerate(_pictures(job["graphs"][number], shown, job["pictures"]))]
        files = [self._adapter(name, Path(_text(outputs[0], node).split("\n")[0])) for node in nodes_of(graph, SAVER)]
        report = "\n\n".join(_text(outputs[0], node) for node in nodes_of(graph, *TRAINERS))
        self.output.write(f"{name}/report.txt", report.encode())
        figures = [json.loads(record) for node in nodes_of(graph, EVALUATE)
                   for record in outputs[0].get(node, {}).get("evaluation", ())]
        if figures:
            self.output.write(f"{name}/figures.json", json.dumps(figures, indent=1).encode())
        return {"status": "done", "key": job["key"], "name": name, "settings": job["settings"], "steps": job["steps"],
                "prompts": list(job["prompts"]), "pictures": pictures, "report": report, "figures": figures,
                "files": [file for group in files for file in group]}

    def _picture(self, job: Mapping[str, Any], number: int, count: int, entry: Mapping[str, str]) -> dict[str, Any]:
        file = f"pictures/{number + 1:02d}-{count + 1:02d}{Path(entry['filename']).suffix}"
        self.output.write(f"{job['name']}/{file}", self._server.client.download(entry))
        return {"file": file, "prompt": job["prompts"][number]}

    def _adapter(self, name: str, path: Path) -> list[str]:
        """Store the saved file with its contexts beside it, and its embeddings in a folder of their own."""
        files = {file.name: file for file in sorted(path.parent.iterdir()) if file.stem == path.stem}
        folder = path.parents[2] / "embeddings"
        files |= {f"embeddings/{Path(embedding).name}.safetensors": folder / f"{embedding}.safetensors"
                  for embedding in embeddings_of(path)}
        for file, source in files.items():
            self.output.put(f"{name}/{file}", source)
        return list(files)

    def _log_size(self) -> int:
        return self._server.log_file.stat().st_size if self._server.log_file.exists() else 0

    def _keep_log(self, name: str, start: int) -> None:
        with self._server.log_file.open("rb") as file:
            file.seek(start)
            self.output.write(f"{name}/job.log", file.read())


def embeddings_of(adapter: Path) -> list[str]:
    """Names of the embeddings that belong to an adapter file, as its metadata has them."""
    with safe_open(str(adapter), "np") as file:
        said = json.loads((file.metadata() or {}).get("personalize", "{}"))
    return sorted(said.get("embeddings", {}).values())


def make_base(base: Path, extension: Path) -> None:
    """A base directory for a ComfyUI that does not have this extension among its own custom nodes."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / "comfyui-personalize"
    if not link.exists():
        try:
            link.symlink_to(extension, target_is_directory=True)
        except FileExistsError:  # another worker was faster
            return


def environment(threads: int | str | None) -> dict[str, str]:
    """This process's environment with the thread count of a lone run."""
    variables = {name: value for name, value in os.environ.items() if name != THREADS}
    return variables if threads is None else variables | {THREADS: str(threads)}


def refusal(graph: Mapping[str, Any], error: GraphRefused) -> str:
    """What ComfyUI says of each node that it refuses, by title."""
    lines = [f"{title_of(dict(graph), node)}: {found.get('message')}: {found.get('details')}"
             for node, said in error.node_errors.items() for found in said.get("errors", ()) if node in graph]
    return "; ".join(lines) or str(error)


def photos_digest(place: str) -> str:
    """Digest of a folder of photos, captions and masks, for a job's key."""
    photos, whole = Storage(place), hashlib.sha256()
    for name in photos.tree():
        whole.update(f"{name}\0{hashlib.sha256(photos.read(name)).hexdigest()}\0".encode())
    return whole.hexdigest()[:32]


def _pictures(graph: Mapping[str, Any], shown: Mapping[str, Any], titles: tuple[str, ...]) -> list[Mapping[str, str]]:
    """The pictures of the nodes with these titles; of all that save some, where none is named."""
    found = [(node, entry) for node in sorted(shown, key=_by_number) for entry in shown[node].get("images", ())
             if node in graph and graph[node]["class_type"] != FOLDER_NODE]
    if titles:
        return [entry for node, entry in found if title_of(dict(graph), node) in titles]
    saved = [entry for _, entry in found if entry.get("type") == "output"]
    return saved or [entry for _, entry in found]


def _by_number(node: str) -> tuple[int, str]:
    return (int(node) if node.isdigit() else 0, node)


def _text(shown: Mapping[str, Any], node: str) -> str:
    return "\n".join(str(line) for line in shown.get(node, {}).get("text", ()))


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "host")
