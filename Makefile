# Two commands: `make run` and `make test`. Each makes the virtual environment first if it is missing.
#
# Needs only Python 3.10 to 3.12 (with venv) and make. PYTHON=/path/to/python chooses one.

PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test test-cluster test-container lint format bench train-sketch clean help
.DEFAULT_GOAL := help

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "ORFEAS needs Python 3.10, 3.11 or 3.12 with venv; none was found. \
	Install one, or say where it is: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-installed: requirements.txt | $(BIN)/python
	@echo "Installing into $(VENV): a few minutes the first time. PyTorch's usual Linux wheel alone brings gigabytes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.test-installed: requirements.txt requirements-cluster.txt requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.run-installed

run: $(VENV)/.run-installed ## install what the app needs, then serve it on http://127.0.0.1:7860
	$(BIN)/python app.py

test: lint ## lint, then the whole test suite, browser tests included, a file of tests on each core
	$(BIN)/python -m tests.browser.chromium --install || true
	$(BIN)/python -m tests.prometheus --install || true
	$(BIN)/python -m pytest -m "not gpu" -n auto --maxprocesses 4 --dist loadfile

test-container: $(VENV)/.test-installed ## build the image without a container engine, start it hardened, run a job
	$(BIN)/python tests/container/try_image.py $(CONTAINER)

test-cluster: $(VENV)/.test-installed ## a machine of a Ray cluster is lost in the middle of a job: a minute
	$(BIN)/python -m tests.engines.cluster_node_lost

lint: $(VENV)/.test-installed ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test-installed ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# At the released sizes Hunyuan3D's would take hours without a GPU.
bench: $(VENV)/.test-installed ## run every benchmark on the CPU, Hunyuan3D's with a tiny model; each ends with one JSON line
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; \
	case $$script in */hunyuan3d.py) $(BIN)/python $$script --tiny --device cpu;; *) $(BIN)/python $$script;; esac; done

# Made anew or gone on with: shards, checkpoint and result stay in $(TRAIN), and what is there is not done again.
# MINUTES is training in all, over which the learning rate falls from PEAK times its usual height; a few minutes want
# less than 1. START= begins from random weights.
TRAIN ?= out/sketch-shape
SHARDS ?= 200
MINUTES ?= 120
PEAK ?= 2
START ?= assets/models/sketch-shape.onnx
DEVICE ?= cpu
# PROCESSES draw samples; THREADS compute, where DEVICE is the processor; FEEDERS make batches, many of them for a GPU.
PROCESSES ?= 1
THREADS ?= 1
FEEDERS ?= 1
COMPUTE = --device $(DEVICE) --threads $(THREADS) --feeders $(FEEDERS)
STEP = $(BIN)/python -m orfeas.engines.sketch.train

train-sketch: $(VENV)/.test-installed ## the sketch engine's network: data, training, ONNX file, scores; goes on where it was
	$(STEP) data $(TRAIN)/data --first 1000000 --shards 2
	$(STEP) data $(TRAIN)/data --shards $(SHARDS) --processes $(PROCESSES)
	$(STEP) fit $(TRAIN)/data $(TRAIN)/run.pt --minutes $(MINUTES) $(COMPUTE) --peak $(PEAK) $(if $(START),--start $(START))
	$(STEP) export $(TRAIN)/run.pt $(TRAIN)/sketch-shape.onnx
	$(BIN)/python benchmarks/sketch_shape.py --model $(TRAIN)/sketch-shape.onnx

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
