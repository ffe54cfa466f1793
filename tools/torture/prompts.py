"""Thousands of mutated prompts through the HTTP API of one real server, fifty per trial."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from ..comfyui_server import Client
from ..install_comfyui import ROOT, comfyui_directory
from .mutations import Mutator
from .record import Result
from .rig import OUR_ERRORS, is_our_file
from .servers import EXPANDED, Graph, WatchedServer, is_raw_and_ours, tree, with_inputs, workflow

TITLE = "Mutated prompts"
CLAIM = ("No prompt ends the server, freezes it, gets a raw exception out of our code, or has anything written "
         "outside of the server's folders.")
BATCH = 50
TRIALS = {"full": 200, "quick": 10, "small": 0}
PATIENCE, LONGEST, ANSWER = 2.0, 90.0, 15.0
"""Seconds: until a prompt is interrupted, until it counts as not to be stopped, and until HTTP must have answered."""
WORKFLOWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17)
MEMORY = 16 * 2**30
"""Bytes of address space of the server."""
IGNORED = (".git", ".venv", ".comfyui", ".torture", ".demo", ".evidence", ".pocket", ".ruff_cache", ".mypy_cache",
           ".pytest_cache")
"""Folders of the checkout in which other commands work."""
COMFYUI_WRITES = ("input", "output", "temp", "user", "models")
"""Folders of ComfyUI's own checkout that another server of this machine may use."""
KINDS = ("exception_during_validation", "exception_during_inner_validation")


def trials(size: str) -> list[str]:
    """Fifty prompts each."""
    return [f"{number * BATCH}" for number in range(TRIALS[size])]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """Fifty prompts."""
    server = WatchedServer(work / "base")
    outside = {"checkout": ROOT, "comfyui": comfyui_directory(), "beside": work}
    skipped = (*IGNORED, "__pycache__", "base", EXPANDED.name, *COMFYUI_WRITES)
    try:
        start(server)
        mutator = make_mutator(server)
        before = tree(outside, skipped)
        told: set[str] = set()

        def trial(identity: str) -> Result:
            if not server.is_alive:
                start(server)
            first = int(identity)
            result = Batch(server, mutator).run(range(first, first + BATCH))
            nonlocal before
            after = tree(outside, skipped)
            result.lost += [f"written outside: {name}" for name in sorted(after.keys() - before.keys())]
            result.lost += [f"changed outside: {name}" for name in before if after.get(name) != before[name]]
            before = after
            result.lost += [f"left its folders: {line}" for line in server.leaks() if line not in told]
            told.update(server.leaks())
            return result

        yield trial
    finally:
        server.stop()


def start(server: WatchedServer) -> None:
    """Start it, and bound its memory."""
    server.start()
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import resource

        resource.prlimit(server.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))


def make_mutator(server: WatchedServer) -> Mutator:
    """The workflows, with a personalization of the tiny model in place of the pocket model's."""
    info = server.client.object_info()
    server.client.run(workflow(1), timeout=300)
    (name,) = (path.relative_to(server.base / "models" / "loras").as_posix()
               for path in sorted((server.base / "models" / "loras").rglob("*.safetensors"))[:1])
    bases: list[Graph] = [with_inputs(workflow(number), "PersonalizeLoad", name=name) for number in WORKFLOWS]
    ours = [kind for kind, about in info.items() if "personalize" in about.get("python_module", "")]
    return Mutator(bases, info, ours)


class Batch:
    """Some prompts, queued together.

    Args:
        server: a running server; it is not started again here.
    """

    def __init__(self, server: WatchedServer, mutator: Mutator):
        self.server, self.client, self.mutator = server, server.client, mutator
        self.result = Result(attempts=0)

    def run(self, numbers: range) -> Result:
        """Queue, wait, judge."""
        waiting: dict[str, str] = {}
        logged = len(self.server.log_text())
        for number in numbers:
            graph, said = self.mutator.prompt(number)
            self.result.attempts += 1
            try:
                waiting |= self._queue(graph, f"prompt {number} ({said})")
            except (URLError, OSError, HTTPException, TimeoutError) as error:
                self._gone(f"prompt {number} ({said}): {type(error).__name__} {error}")
                return self.result
        try:
            self._wait()
            for prompt_id, said in waiting.items():
                self._judge(prompt_id, said)
            self._look_into_log(self.server.log_text()[logged:])
            self.client.post("/history", {"clear": True})
            if not self.server.is_alive:
                raise ConnectionError("the process is gone")
        except (URLError, OSError, HTTPException, TimeoutError) as error:
            self._gone(f"{' | '.join(waiting.values())[:1500]}: {type(error).__name__} {error}")
        return self.result

    def _queue(self, graph: Graph, said: str) -> dict[str, str]:
        body = json.dumps({"prompt": graph, "client_id": self.client.client_id}).encode()
        try:
            answer = _post(self.client, body)
        except HTTPError as error:
            text = error.read()
            self._judge_refusal(error.code, text, said)
            return {}
        self.result.counts["accepted"] += 1
        return {answer["prompt_id"]: said}

    def _judge_refusal(self, code: int, text: bytes, said: str) -> None:
        self.result.counts["refused before running" if code == 400 else f"HTTP {code} of ComfyUI"] += 1
        try:
            node_errors = json.loads(text).get("node_errors") or {}
        except ValueError:
            return
        for node in node_errors.values() if isinstance(node_errors, dict) else ():
            for error in node.get("errors", ()):
                if error.get("type") in KINDS and is_raw_and_ours(error.get("extra_info", {}), OUR_ERRORS):
                    self._raw(said, error["extra_info"])

    def _raw(self, said: str, details: dict[str, Any]) -> None:
        where = [line.strip() for line in "".join(map(str, details.get("traceback") or ())).splitlines()
                 if line.lstrip().startswith("File ")][-1:]
        self.result.counts["raw exceptions of ours"] += 1
        self.result.lost.append(f"{said}: raw {details.get('exception_type')}: "
                                f"{str(details.get('exception_message'))[:200]} {''.join(where)}")

    def _look_into_log(self, text: str) -> None:
        """Tracebacks that the server wrote down and no answer told: of a handler, or of a fingerprint."""
        for block in text.split("Traceback (most recent call last):")[1:]:
            lines = block.split("\n")
            frames = [line for line in lines if line.startswith('  File "')]
            ends = [line for line in lines[1:] if line and not line.startswith(" ")][:1]
            kind, _, message = ends[0].partition(": ") if ends else ("", "", "")
            is_cause = "was the direct cause of" in block or "During handling of the above" in block
            is_raw = frames and not is_cause and is_our_file(frames[-1]) and kind.rpartition(".")[2] not in OUR_ERRORS
            if is_raw and not any(message.strip() in sentence for sentence in self.result.lost):
                self._raw("in the server's log", {"exception_type": kind, "exception_message": message,
                                                  "traceback": [f"{frames[-1]}\n"]})

    def _wait(self) -> None:
        """Until the queue is empty; what runs too long is interrupted."""
        changed, left, pressed = time.monotonic(), -1, 0.0
        while True:
            now = time.monotonic()
            found = self.client.get("/prompt", timeout=ANSWER)["exec_info"]["queue_remaining"]
            if found == 0:
                return
            if found != left:
                changed, left = now, found
            if now - changed > LONGEST:
                raise TimeoutError(f"a prompt goes on {LONGEST:.0f} s in spite of interrupts")
            if now - changed > PATIENCE and now - pressed > 1.0:
                pressed = now
                self.client.interrupt()
            time.sleep(0.02)

    def _judge(self, prompt_id: str, said: str) -> None:
        status = (self.client.history(prompt_id) or {"status": {"status_str": "lost", "messages": []}})["status"]
        messages: dict[str, Any] = dict(status["messages"])
        counts: Counter[str] = self.result.counts
        if status["status_str"] == "success":
            counts["succeeded"] += 1
        elif "execution_interrupted" in messages:
            counts["interrupted"] += 1
            self.result.figures.setdefault("interrupted", []).append(said)
        else:
            details = messages.get("execution_error", {})
            kind = str(details.get("exception_type")).rpartition(".")[2]
            is_ours = str(details.get("node_type")) in self.mutator.ours
            if is_raw_and_ours(details, OUR_ERRORS):
                self._raw(said, details)
            elif kind in OUR_ERRORS:
                counts["refused by a node of ours, in words"] += 1
            elif is_ours:
                counts["errors of libraries under a node of ours"] += 1
                self.result.figures.setdefault("library errors", []).append(
                    f"{said}: {kind}: {str(details.get('exception_message'))[:200]}")
            else:
                counts["errors of other nodes"] += 1

    def _gone(self, what: str) -> None:
        """The server does not answer: it died, or it hangs."""
        how = "hang" if self.server.is_alive else "death of the server"
        self.result.counts[how] += 1
        self.result.lost.append(f"{how}: {what}")
        self.server.kill()


def _post(client: Client, body: bytes) -> Any:
    from urllib.request import Request, urlopen

    request = Request(client.address + "/prompt", body, {"Content-Type": "application/json"})  # noqa: S310 - the local server
    with urlopen(request, timeout=ANSWER) as answer:  # noqa: S310 - the local server
        return json.loads(answer.read())
