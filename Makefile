# The developer's vocabulary: `make` lists it. CI runs `setup`, `pulumi`, `base`, `packed`, `check` and `test`, and nothing else.

MAKEFLAGS += --no-print-directory
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$p" && break; done)
ifeq ($(PYTHON),)
$(error Python 3.11 or newer is needed: install it, or say which one with PYTHON=/path/to/python)
endif

VENV := .venv
BIN := $(VENV)/bin
UV := .uv/bin/uv
INSTALL := $(UV) pip install --python $(BIN)/python --compile-bytecode
# Of a whole lock: nothing is looked up beside it, nothing is built, and what was altered on its way is refused.
HASHED := --require-hashes --no-deps --only-binary :all:
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11
QUICK := not engine and not root and not base and not page and not gpuhunt and not packed and not gpu
DEAR := engine or root or base or page or gpuhunt or packed
# A machine with an NVIDIA driver promises a card: its tests run there, and fail where torch sees none.
REST := $(if $(shell command -v nvidia-smi),$(DEAR) or gpu,($(DEAR)) and not gpu)
# Three at a time, also on two cores: a test on a box or through the engine waits for a third of its time.
WORKERS ?= 3
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q

# torch on a machine without an NVIDIA GPU needs no triton, which weighs a gigabyte. TORCH_BACKEND=cpu takes PyTorch's own CPU
# build instead, where its index can be reached: nothing of CUDA is installed then, and no hash is compared, since those builds
# have others.
TORCH_BACKEND ?=
ifeq ($(TORCH_BACKEND),cpu)
STACK_OPTIONS := --torch-backend cpu --no-deps
STACK_FILTER := sed -nE '/^(nvidia-[^m]|cuda|triton)/d; s/ *\\$$//; /^[a-z]/p'
else
STACK_OPTIONS := $(HASHED)
STACK_FILTER := $(shell command -v nvidia-smi >/dev/null && echo cat || echo .ci/without-triton.sh)
endif

export PYTHON
export UV_PYTHON_DOWNLOADS := never

.PHONY: help encoder demo demo-qlora setup setup-light setup-box setup-dev system-demo system-test test test-quick test-gpu test-wheel \
	check pulumi base gpuhunt packed docs lock acceptance bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# ── the two commands to start with ─────────────────────────────────────────────────────────────────────────────────

demo: ## plan, rent the local box, train SmolLM2-135M with LoRA, bring the adapter home, tear down, report
	@.ci/demo.sh examples/demo/job.yaml

demo-qlora: ## the same with the base in 4 bits (QLoRA, nf4)
	@.ci/demo.sh examples/demo/qlora.yaml

test: setup pulumi base gpuhunt packed test-wheel ## set up, then every test: the quick ones against the built wheel, then the rest
	@WORKERS=$(WORKERS) .ci/tests.sh $(BIN)/python build/junit/rest.xml -m "$(REST)"

test-quick: system-demo setup-light setup-box setup-dev ## the tests that need neither root, nor engine, nor Chromium, nor the real base, nor gpuhunt, nor others' packing
	@$(PYTEST) -m "$(QUICK)"

test-gpu: setup-light setup-box setup-dev ## the tests that need an NVIDIA GPU, minutes of one; they fail where torch sees none
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -q -m gpu

test-wheel: setup ## the quick tests against the built wheel, in an environment and a folder of its own
	@QUICK="$(QUICK)" WORKERS=$(WORKERS) .ci/wheel.sh

check: setup-light setup-box setup-dev ## ruff, format, strict types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# ── set-up: each step leaves a stamp, so that a second run reuses it ───────────────────────────────────────────────

setup: system-test setup-light setup-box setup-dev ## everything but the engine and the base model

system-demo:
	@.ci/system.sh demo

system-test:
	@.ci/system.sh test

setup-light: $(VENV)/.light ## rentune itself: planner, SSH, Pulumi's SDK (80 MB, no torch)
	@$(BIN)/python -m compileall -q catalogs planner provision remote # even where PYTHONDONTWRITEBYTECODE is set
setup-box: $(VENV)/rentune-stack.sha256 ## torch, transformers, peft, bitsandbytes: what the local box trains with (4.4 GB)
setup-dev: $(VENV)/.dev ## pytest, ruff, mypy, moto, the clouds' SDKs

$(UV): .ci/locks/uv.txt
	@.ci/system.sh venv
	@echo "Installing uv into .uv/"
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/locks/uv.txt
	@touch $@

$(BIN)/python: | $(UV)
	@$(UV) venv --quiet --python $(PYTHON) $(VENV)

$(VENV)/.light: .ci/locks/light.txt .ci/locks/build.txt pyproject.toml | $(BIN)/python
	@echo "Installing rentune into $(VENV)/"
	@$(INSTALL) --quiet $(HASHED) -r .ci/locks/light.txt
	@$(INSTALL) --quiet --no-deps --build-constraint .ci/locks/build.txt --editable .
	@touch $@

# The stamp is the lock's hash: the local box trusts an environment that carries the hash of the lock it was told to use.
$(VENV)/rentune-stack.sha256: remote/requirements.txt | $(VENV)/.light
	@echo "Installing the training stack into $(VENV)/ (once; several gigabytes)"
	@mkdir -p build
	@$(STACK_FILTER) < $< > build/stack.txt
	@$(INSTALL) $(STACK_OPTIONS) -r build/stack.txt
	@sha256sum $< | cut -d ' ' -f 1 > $@

$(VENV)/.dev: .ci/locks/dev.txt | $(VENV)/.light
	@echo "Installing test and check tools into $(VENV)/"
	@$(INSTALL) --quiet $(HASHED) -r .ci/locks/dev.txt
	@touch $@

pulumi: setup-light ## build the Pulumi engine from its published Go modules (cached by version)
	@PATH="$(CURDIR)/$(dir $(UV)):$$PATH" $(BIN)/python -m provision.clouds.engine.build

base: setup-light ## fetch the demo's base model (93 MB) into the cache
	@$(BIN)/python examples/demo/fetch_base.py

gpuhunt: build/gpuhunt/.stamp ## rentune with gpuhunt, in an environment of its own: gpuhunt brings a package called `tests`

build/gpuhunt/.stamp: .ci/locks/gpuhunt.txt .ci/locks/build.txt pyproject.toml | $(UV)
	@echo "Installing gpuhunt into build/gpuhunt/"
	@$(UV) venv --quiet --clear --python $(PYTHON) build/gpuhunt
	@$(UV) pip install --quiet --python build/gpuhunt/bin/python $(HASHED) -r .ci/locks/gpuhunt.txt
	@$(UV) pip install --quiet --python build/gpuhunt/bin/python --no-deps --build-constraint .ci/locks/build.txt --editable .
	@touch $@

# The stack is the one of $(VENV), torch with it: only what comes beside it is installed. Some of these are published as sources
# alone, one in C; what builds them has no lock, since they ask for versions of setuptools that exclude each other.
packed: build/packed/.stamp ## what reads bases that others packed (GPTQ, AWQ, HQQ), in an environment over the box's stack (80 MB)

build/packed/.stamp: remote/requirements-stored.txt remote/requirements.txt | $(VENV)/rentune-stack.sha256 $(VENV)/.dev
	@echo "Installing what reads packed bases into build/packed/"
	@$(UV) venv --quiet --clear --python $(PYTHON) build/packed
	@$(UV) pip install --quiet --python build/packed/bin/python --require-hashes --no-deps -r remote/requirements-stored.txt
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(build/packed/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/stack.pth"
	@touch $@

encoder: setup-light ## fetch the encoder that benchmarks/training/docstring_areas.py tunes (84 MB) into the cache
	@$(BIN)/python examples/demo/fetch_base.py encoder

# ── upkeep ─────────────────────────────────────────────────────────────────────────────────────────────────────────

docs: setup-light ## write docs/schemas, docs/commands.md, docs/clouds.md and the trees anew
	@$(BIN)/python -m tests.contracts
	@$(BIN)/python -m tests.rendered

lock: | $(UV) ## compile the requirement files anew
	$(COMPILE) .ci/locks/uv.in -o .ci/locks/uv.txt
	$(COMPILE) .ci/locks/build.in -o .ci/locks/build.txt
	$(COMPILE) pyproject.toml --extra provision -o .ci/locks/light.txt
	$(COMPILE) pyproject.toml --extra gpuhunt -c .ci/locks/light.txt -o .ci/locks/gpuhunt.txt
	$(COMPILE) remote/requirements.in -o remote/requirements.txt
	$(COMPILE) remote/requirements-stored.in -c remote/requirements.txt $$(sed -nE 's/^([a-z0-9-]+)==.*/--no-emit-package \1/p' remote/requirements.txt) \
		-o remote/requirements-stored.txt
	$(COMPILE) pyproject.toml --extra aws --extra hetzner --extra digitalocean --extra gcp --extra state --group dev -c remote/requirements.txt -o .ci/locks/dev.txt

acceptance: setup-light setup-box setup-dev ## show again what docs/acceptance.md promises, and write the results into it
	@$(BIN)/python .ci/acceptance.py

bench: setup base encoder pulumi ## measure again what benchmarks/results/ holds
	$(BIN)/python -m benchmarks.offers.startup --write
	$(BIN)/python -m benchmarks.renting.transfer --write
	$(BIN)/python -m benchmarks.training.whole_run --write
	$(BIN)/python -m benchmarks.renting.chaos --write
	$(BIN)/python -m benchmarks.renting.kill_matrix --write
	$(BIN)/python -m benchmarks.renting.orphan_search --write
	$(BIN)/python -m benchmarks.training.docstring_areas --write
	$(BIN)/python -m benchmarks.training.methods_by_family --write

clean: ## remove what was built here; the caches under ~/.cache/rentune stay
	rm -rf .venv .uv build dist examples/demo/generated .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
