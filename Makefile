# lookalike: `make serve` and `make test` need nothing but Python >= 3.11 and make.

PYTHON ?= python3
TIMES ?= 10
VENV := .venv
BIN := $(VENV)/bin
# The builds of PyTorch for the CPU are small; a later release from the registry would bring gigabytes of CUDA.
TORCH := torch==2.13.0
# What is installed is what requirements.lock says; the ranges that the code was written for stand in pyproject.toml.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

# Where this is set, each of the hundreds of processes that tests start would compile whatever it imports.
unexport PYTHONDONTWRITEBYTECODE

# Without pip's package on Debian, venv leaves a .venv without pip and fails: the next `make` is to begin anew.
.DELETE_ON_ERROR:

.DEFAULT_GOAL := help
.PHONY: help install train-install serve test endurance bench torture coverage check lock image-replay clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'

install: $(VENV)/.installed ## Create .venv with what the service needs

train-install: $(VENV)/.installed-all ## Create .venv with PyTorch too, to train

serve: $(VENV)/.installed ## Serve on http://127.0.0.1:8000
	$(BIN)/python -m app serve

# One process more than the two cores of the continuous integration: tests wait a third of their time.
test: $(VENV)/.installed-all ## Run every test, and get what they need; the last lines say what was skipped, and why
	$(BIN)/python -m tests.programs
	$(BIN)/python -m pytest -n 3

endurance: $(VENV)/.installed-all ## Run every test TIMES times (10) beside a process that takes a core (hours)
	$(BIN)/python -m tests.programs
	$(BIN)/python -m tests.endurance $(TIMES)

bench: $(VENV)/.installed-all ## Measure the speed here, against other servers, and write the tables of the documents (12 minutes, 6 GB)
	$(BIN)/python -m benchmarks

torture: $(VENV)/.installed-all ## Try for an hour or so to break the service on this machine, and print what was lost
	TORTURE=long $(BIN)/python -m pytest tests/torture

coverage: $(VENV)/.installed-all ## Run every test, and show which lines none of them reached
	$(BIN)/python -m pytest -n 3 --cov --cov-report=term-missing:skip-covered

check: $(VENV)/.installed-all ## Lint and check types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(VENV)/bin/python ## Pin what pyproject.toml asks for; remove requirements.lock first to take the newest
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	echo '$(TORCH)' | $(BIN)/uv pip compile pyproject.toml --quiet --universal --all-extras --python-version 3.11 \
	  --constraint - --no-header --no-annotate --no-emit-index-url --output-file requirements.lock

image-replay: $(VENV)/.installed-all ## Replay the CPU image without an engine, and run it (Linux, root, debootstrap)
	$(BIN)/python tests/deploy/replay.py

clean: ## Remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .coverage* *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(INSTALL) --editable .
	touch $@

# Most of what this brings is never imported; compiling all of it takes a minute, and what is imported is compiled then.
$(VENV)/.installed-all: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(INSTALL) --no-compile $(TORCH)
	$(INSTALL) --no-compile --editable '.[train,test,dev]'
	touch $@ $(VENV)/.installed
