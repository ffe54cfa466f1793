# Everything is kept inside the checkout: .venv, .comfyui (ComfyUI, its base directory, caches), .demo (pictures).
# COMFYUI_DIR=... uses a ComfyUI that is there already; PYTHON=... names the interpreter for the environment.

PYTHON ?= python3
HERE := $(CURDIR)
PY := .venv/bin/python

export TMPDIR := $(HERE)/.comfyui/tmp
export XDG_CACHE_HOME := $(HERE)/.comfyui/cache
export HF_HOME := $(HERE)/.comfyui/cache/huggingface
export TORCH_HOME := $(HERE)/.comfyui/cache/torch
export MPLCONFIGDIR := $(HERE)/.comfyui/cache/matplotlib
ifdef COMFYUI_DIR
export COMFYUI_DIR
export PYTHONPYCACHEPREFIX := $(HERE)/.comfyui/cache/python
endif
# Programs that write below the home directory get one of their own; pip keeps the user's settings.
# The checkout is the package comfyui_personalize, through a link that setup makes.
RUN = HOME="$(HERE)/.comfyui/home" PYTHONPATH="$(HERE)/.comfyui/package" $(PY)
# As many processes as tests/conftest.py finds right for the machine; a file's tests stay together, in its order of files.
SIDE_BY_SIDE = -n $(or $(WORKERS),auto) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test test-core test-nodes test-full lint pocket families bench gpu evidence evidence-dci torture pictures thumbnails help-pictures workflows screenshots locales gallery clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

setup:  ## virtual environment and ComfyUI inside the checkout; seconds when done already
	@mkdir -p "$(TMPDIR)" "$(HERE)/.comfyui/home"
	@$(PYTHON) tools/install_comfyui.py

demo: setup  ## photos to pictures on a real server: one contact sheet in .demo/
	@$(RUN) -m comfyui_personalize.tools.demo

test: setup  ## every test but the sweeps, with lint and types; WORKERS=1 for one process at a time
	$(RUN) -m pytest $(SIDE_BY_SIDE)

test-core:  ## core, lint and types; no ComfyUI needed, only torch, diffusers, peft and the checkers
	@mkdir -p "$(TMPDIR)" "$(HERE)/.comfyui/home"
	$(if $(wildcard $(PY)),$(RUN),$(PYTHON)) -m pytest tests/core tests/test_*.py

test-nodes: setup  ## the nodes, with a real ComfyUI in the tests' process; no server, no browser
	$(RUN) -m pytest tests/nodes

test-full: setup  ## the sweeps too; before a release
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m ""

lint: setup  ## ruff and mypy
	$(RUN) -m pytest tests/test_lint.py

pocket: setup  ## train the embedded model; resumable; POCKET_STATE=file outside the checkout, MINUTES=200
	$(RUN) -m pocket.train --minutes $(or $(MINUTES),200)

families: setup  ## can every family of models learn? docs/families.md; resumable, minutes; FAMILIES="z_image flux" for some
	@$(RUN) -m comfyui_personalize.benchmarks.every_family $(FAMILIES)

bench: setup  ## step time, class images, sampling time and memory, as ratios
	$(RUN) benchmarks/training_step.py --write
	$(RUN) benchmarks/transformer_step.py --write
	$(RUN) benchmarks/dci_sampling.py --write
	$(RUN) benchmarks/before_training.py --write
	$(RUN) -m comfyui_personalize.benchmarks.editor --write

gpu:  ## step time, memory, cancel, DCI on an NVIDIA card, minutes; needs no setup: GPU="--wheels FOLDER"
	@$(if $(wildcard $(PY)),$(RUN),$(PYTHON)) benchmarks/gpu.py $(GPU)

evidence: setup  ## the papers' claims as numbers on the pocket model; resumable, hours; EVIDENCE=--quick in minutes
	$(RUN) -m comfyui_personalize.benchmarks.evidence $(EVIDENCE)

evidence-dci: setup  ## the same for DCI: the sweep behind its defaults, then held-out subjects
	$(RUN) -m comfyui_personalize.benchmarks.evidence.dci --sweep
	$(RUN) -m comfyui_personalize.benchmarks.evidence.dci --held-out

torture: setup  ## kills, full disks, flipped bits, 10,000 wrong prompts; resumable, an hour; TORTURE=--quick in minutes
	@$(RUN) -m comfyui_personalize.tools.torture $(TORTURE)

pictures: setup  ## every workflow on held-out subjects, judged: docs/pictures.md; resumable, hours; PICTURES="--subjects 2 --quick"
	@$(RUN) -m comfyui_personalize.tools.pictures $(PICTURES)

thumbnails: setup  ## the gallery's thumbnails again, from the pictures that make gallery kept
	@$(RUN) -m comfyui_personalize.tools.thumbnails

help-pictures: setup  ## every node in the real editor, for the help pages; NODES="PersonalizeTrainer" for some
	@$(RUN) -m comfyui_personalize.tools.help_pictures $(NODES)

workflows: setup  ## write workflows/*.json again from tools/workflow_graphs
	$(RUN) -m comfyui_personalize.tools.write_workflows

screenshots: setup  ## every template in the real editor, for docs/templates.md; needs a Chromium; SCREENSHOTS="01 03" for some
	@$(RUN) -m comfyui_personalize.tools.screenshots $(SCREENSHOTS)

locales: setup  ## write locales/ again from the schemas, the scripts and tools/languages
	@$(RUN) -m comfyui_personalize.tools.write_locales

gallery: setup  ## the same, and run them for their thumbnails and the example personalization
	$(RUN) -m comfyui_personalize.tools.render_photos
	$(RUN) -m comfyui_personalize.tools.write_workflows --run

clean:  ## remove everything that setup, demo and tests made
	rm -rf .venv .comfyui .demo .evidence .families .gallery .pictures .torture .mypy_cache .ruff_cache .pytest_cache
