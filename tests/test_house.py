"""What the package says about itself is consistent, and setup leaves one way to install it."""

from __future__ import annotations

import gc
import os
import re
import subprocess
from types import SimpleNamespace

import pytest
import tomllib

from comfyui_personalize.tools import install_comfyui
from comfyui_personalize.tools.install_comfyui import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_requirements_are_the_projects_dependencies():
    """ComfyUI-Manager reads the one, the registry the other."""
    assert (ROOT / "requirements.txt").read_text().split() == PROJECT["project"]["dependencies"]


def test_dependencies_never_touch_torch():
    names = {re.split(r"[<>=!~ ]", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert names == {"diffusers", "peft"}


def test_registry_metadata_is_complete():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert project["name"] == "comfyui-personalize"
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert {"Repository", "Documentation", "Issues"} <= project["urls"].keys()
    assert {"PublisherId", "DisplayName", "Icon", "Models", "requires-comfyui", "includes"} <= comfy.keys()
    assert any(line.startswith("Operating System ::") for line in project["classifiers"])
    assert any(line.startswith("Environment :: GPU ::") for line in project["classifiers"])


def test_the_changelog_knows_the_version():
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_that_the_contributors_page_names_is_there():
    named = re.findall(r"`([\w./-]+/[\w./-]*)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    ours = {name for name in named if "NAME" not in name and "NODE_ID" not in name}
    assert len(ours) > 20 and [name for name in sorted(ours) if not (ROOT / name).exists()] == []


def test_no_install_script_runs_on_a_users_machine():
    """ComfyUI-Manager would run an install.py of the root directory."""
    assert not (ROOT / "install.py").exists() and not (ROOT / "prestartup_script.py").exists()


def test_what_is_committed_fits_into_a_clone():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout; this is a copy")
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    weights = sum(size for name, size in sizes.items() if name.startswith(("pocket/", "workflows/personalizations/")))
    assert weights <= 48 * 2**20
    assert sum(sizes.values()) - weights <= 8 * 2**20


def test_setup_refuses_a_python_that_is_too_old(monkeypatch):
    monkeypatch.setattr(install_comfyui.sys, "version_info", (3, 9, 1))
    with pytest.raises(install_comfyui.SetupError, match=r"got 3\.9, expected 3\.11 to 3\.14.*PYTHON="):
        install_comfyui.check_python()


def test_setup_refuses_a_directory_that_is_no_comfyui(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(install_comfyui.SetupError, match="COMFYUI_DIR: got .* expected .*main.py"):
        install_comfyui.provide_comfyui()


def test_setup_refuses_and_deletes_an_archive_with_another_checksum(monkeypatch, tmp_path):
    archive = tmp_path / "cache" / install_comfyui.SOURCE_ARCHIVE
    archive.parent.mkdir()
    archive.write_bytes(b"not the archive")
    monkeypatch.setattr(install_comfyui, "HOME", tmp_path)
    with pytest.raises(install_comfyui.SetupError, match="got sha256 .*, expected"):
        install_comfyui.fetch_archive()
    assert not archive.exists()


def test_the_setup_key_depends_on_every_requirement(monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("torch\n")
    before = install_comfyui.setup_key(tmp_path)
    assert install_comfyui.setup_key(tmp_path) == before
    (tmp_path / "requirements.txt").write_text("torch\nnumpy\n")
    assert install_comfyui.setup_key(tmp_path) != before


def test_what_imports_made_is_never_looked_through_again():
    """In each process that runs tests (`tests/conftest.py`)."""
    assert gc.isenabled() and gc.get_freeze_count() > 10_000


@pytest.mark.parametrize(("cores", "gib", "workers"), [(1, 64, 1), (2, 23, 2), (16, 64, 4), (16, 15, 2), (16, 4, 1)])
def test_tests_run_in_as_many_processes_as_cores_and_memory_carry(pytestconfig, monkeypatch, cores, gib, workers):
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("xdist")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=gib << 30))
    assert pytestconfig.hook.pytest_xdist_auto_num_workers(config=pytestconfig) == workers
