"""What a worker is made of: code, ComfyUI, torch, models. Workers of one fleet must be alike, or results are not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import UnlikeWorkers

CODE = ("__init__.py", "core", "nodes", "pocket")
CHUNK = 1 << 22
MISSING = "not found"


def digest_of_files(paths: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over names and contents."""
    whole = hashlib.sha256()
    for name, path in paths:
        whole.update(f"{name}\0{sha256_of(path)}\0".encode())
    return whole.hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            whole.update(piece)
    return whole.hexdigest()


def code_digest(extension: Path) -> str:
    """Digest of the extension's Python files, so that a changed line counts as well as another commit."""
    files = [path for name in CODE for path in ([extension / name] if name.endswith(".py") else
                                                sorted((extension / name).rglob("*.py")))]
    return digest_of_files((str(path.relative_to(extension)), path) for path in files if path.is_file())[:16]


def commit_of(extension: Path) -> str:
    """The extension's commit, for people; empty where it is no git checkout."""
    found = subprocess.run(["git", "-C", str(extension), "rev-parse", "--short=12", "HEAD"],  # noqa: S603, S607
                           capture_output=True, text=True, check=False)
    return found.stdout.strip()


def comfyui_version(comfyui: Path) -> str:
    """The version that a ComfyUI says it is."""
    path = comfyui / "comfyui_version.py"
    found = re.search(r'__version__ = "(.+?)"', path.read_text()) if path.exists() else None
    return found[1] if found else "unknown"


class ModelHashes:
    """SHA-256 of model files, remembered by path, size and date: large files are read once a machine.

    Args:
        file: where they are remembered.
        folders: where models lie, in the order in which ComfyUI looks.
    """

    def __init__(self, file: Path, folders: Sequence[Path]):
        self.file, self.folders = file, folders

    def of(self, name: str) -> str:
        """The hash of a model by its name in a loader; "not found" where no folder has it."""
        path = self.find(name)
        return MISSING if path is None else self._hash(path)

    def find(self, name: str) -> Path | None:
        """A model's file."""
        for folder in self.folders:
            kinds = [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
            for kind in (*kinds, folder):
                if (kind / name).is_file():
                    return kind / name
        return None

    def _hash(self, path: Path) -> str:
        stat, known = path.stat(), self._known()
        entry = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
        if entry not in known:
            known[entry] = sha256_of(path)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(json.dumps(known))
            os.replace(partial, self.file)
        return known[entry]

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self.file.read_text())
        except (OSError, json.JSONDecodeError):
            return {}
        return known if isinstance(known, dict) else {}


def model_folders(comfyui: Path, base: Path | None, extension: Path) -> list[Path]:
    """Where ComfyUI finds models, as far as its folders tell."""
    return [(base or comfyui) / "models", extension / "pocket"]


def hash_file(work: Path) -> Path:
    """Where this machine remembers its hashes."""
    return work / "hashes" / f"{socket.gethostname()}.json"


def check_alike(reference: Mapping[str, Any], other: Mapping[str, Any], name: str) -> None:
    """Raises: UnlikeWorkers, with every difference: got, expected."""
    unlike = [f"{key}: got {other.get(key)!r}, expected {value!r}"
              for key, value in reference.items() if other.get(key) != value]
    if unlike:
        raise UnlikeWorkers(f"{name} is not like the first worker: {'; '.join(unlike)}. Update it, or leave it out.")
