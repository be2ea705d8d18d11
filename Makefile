# One verb a job; `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch is installed first, with pip, which uses pip's settings (a local wheel of the CPU build); uv installs the rest in
# seconds.
TORCH := torch==2.13.0

# Compiling, uploading and building images need the light core alone: an environment without torch, unless .venv exists.
LIGHT := $(if $(wildcard $(VENV)/run),$(VENV)/run,.venv-light/core)
LIGHT_BIN := $(dir $(LIGHT))bin

# Digests of the images that were pushed last; the compiled pipelines name them.
-include build/images.env
export LORALINE_LIGHT_IMAGE LORALINE_GPU_IMAGE

.DEFAULT_GOAL := help
.PHONY: help install run ui compile compile-and-upload images push test test-gpu test-families test-containers test-real lint format docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-19s %s\n", $$1, $$2}'

install: $(VENV)/run ## install into .venv; the other targets do it as needed

run: $(VENV)/run ## fine-tune the quickstart model on this machine, through the whole pipeline
	@$(BIN)/loraline run quickstart

ui: $(VENV)/run ## open MLflow's pages: runs, curves, models
	@$(BIN)/loraline ui

compile: $(LIGHT) ## compile the pipelines for a cluster, into build/
	@$(LIGHT_BIN)/loraline compile

compile-and-upload: compile ## compile the pipelines and upload them to Kubeflow Pipelines (KFP_ENDPOINT)
	@for name in finetune retrain promote; do \
		$(LIGHT_BIN)/loraline upload build/$$name.yaml $(if $(VERSION),--version $(VERSION)) || exit; done

images: $(LIGHT) ## build the images of the steps (CPU=1: with torch for CPUs)
	@$(LIGHT_BIN)/python images/build.py $(if $(CPU),--torch cpu)

push: $(LIGHT) ## push the images to REGISTRY, and record their digests for `make compile`
	@test -n "$(REGISTRY)" || { echo "REGISTRY is not set: make images push REGISTRY=registry.example/team"; exit 1; }
	@$(LIGHT_BIN)/python images/build.py $(if $(CPU),--torch cpu) --push $(REGISTRY)

test: $(VENV)/dev ## run the tests
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-gpu: $(VENV)/dev ## run the tests that need a CUDA device; without one, do nothing but say so
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
		then $(BIN)/pytest tests/gpu -m gpu; else echo "torch finds no CUDA device: no test was run"; fi

test-families: $(VENV)/dev ## try every family of models in docs/families.md
	@$(BIN)/pytest tests/families -m "families or not families" -n 2

test-containers: $(VENV)/dev ## build the images, check them, and run the pipeline in them (root on Debian)
	@$(BIN)/pytest tests/images -m containers

test-real: $(VENV)/dev ## fine-tune a real model of 135M parameters, for a quarter of an hour (SHORT=1: less)
	@$(BIN)/pytest tests/real -m real

lint: $(VENV)/dev ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/dev ## format the code and fix lint errors
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(LIGHT) ## regenerate docs/parameters.md from the code
	@$(LIGHT_BIN)/python -m pipelines.document

lock: $(VENV)/dev ## resolve all dependencies again, into requirements.lock and the images' locks
	@$(BIN)/uv pip compile -q pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-annotate \
		| grep -vE '^(nvidia|cuda|triton)' > requirements.lock
	@$(BIN)/python images/lock.py

clean: ## remove what was installed and built; runs are kept
	rm -rf $(VENV) .venv-light build *.egg-info

define check_python
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Loraline needs Python 3.11 to 3.13; set PYTHON=python3.12 or the like"; exit 1; }
endef

$(VENV)/torch:
	$(check_python)
	@echo "installing into $(VENV) (a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check $(TORCH) uv
	@touch $@

$(VENV)/run: $(VENV)/torch pyproject.toml requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python -c requirements.lock -e '.[local]'
	@touch $@

$(VENV)/dev: $(VENV)/run
	@$(BIN)/uv pip install -q --python $(BIN)/python -c requirements.lock -e '.[dev]'
	@touch $@

.venv-light/core: pyproject.toml requirements.lock
	$(check_python)
	@echo "installing the light core into .venv-light (seconds, once) ..."
	@$(PYTHON) -m venv .venv-light
	@.venv-light/bin/pip install -q --disable-pip-version-check uv
	@.venv-light/bin/uv pip install -q --python .venv-light/bin/python -c requirements.lock -e .
	@touch $@
