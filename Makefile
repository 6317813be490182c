# One command trains, one command tests; each sets up .venv by itself the first time.
#
#   make train ARGS="env=mt10 method=samgs total_steps=20000"
#   make test
#
# TORCH picks the torch to install when .venv is built, say TORCH="torch==2.13.0". Without an NVIDIA GPU, Linux gets
# PyPI's CUDA build by default: it works, and is several GB that a CPU never uses.
#
# JOBS says how many processes test: one a core, four at most.

PYTHON ?= python3
TORCH ?=
ARGS ?=
JOBS ?= -n auto --maxprocesses=4

VENV := .venv
PY := $(VENV)/bin/python
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help train vision test test-cluster test-slow test-gpu lint format bench setup clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

train: $(RUN_STAMP) ## train; ARGS="env=mt10 method=samgs seed=1" (ARGS=--help lists every key)
	@$(PY) -m mtrl_surgery train $(ARGS)

test: $(DEV_STAMP) ## the quick tests; ARGS="-k samgs" picks some, ARGS="-n0 --pdb" stays in one process
	$(PY) -m pytest $(JOBS) $(ARGS)

test-cluster: $(DEV_STAMP) ## the tests that start Ray or several learners, but for the slow ones
	$(PY) -m pytest -m "cluster and not slow and not gpu" $(JOBS) $(ARGS)

test-slow: $(DEV_STAMP) ## every test that needs no GPU
	$(PY) -m pytest -m "not gpu" $(JOBS) $(ARGS)

test-gpu: $(DEV_STAMP) ## the tests that need a CUDA device
	$(PY) -m pytest -m gpu $(ARGS)

lint: $(DEV_STAMP) ## style, types and the rule that no import runs upward
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(DEV_STAMP) ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

vision: $(RUN_STAMP) ## train a supervised benchmark; ARGS="method=samgs" (two digits, a minute; ARGS=--help lists every key)
	@$(PY) -m experiments_vision train $(ARGS)

bench: $(RUN_STAMP) ## time this machine; ARGS="update tasks=50" (update, methods, rollout, chunks, learners, scaling, chaos, vision)
	@$(PY) -m benchmarks $(ARGS)

setup: $(DEV_STAMP) ## build .venv with everything a developer needs

clean: ## remove .venv and caches (never runs/)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "error: '$(PYTHON)' not found; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: Python 3.11 or newer is needed, '$(PYTHON)' is $$($(PYTHON) --version 2>&1); name a newer one with PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
		echo "error: could not build $(VENV); on Debian and Ubuntu the package python3-venv is needed" >&2; \
		rm -rf $(VENV); exit 1; }

# torch goes in first so that TORCH decides and the rest of the dependencies are solved around it.
$(RUN_STAMP): pyproject.toml | $(PY)
	$(if $(TORCH),$(PY) -m pip install "$(TORCH)")
	$(PY) -m pip install -e ".[dashboard,record,report]"
	@touch $@

# mtrl pins numpy 1.19 and hydra 1.0; the test that compares with it needs neither.
$(DEV_STAMP): pyproject.toml | $(PY)
	$(if $(TORCH),$(PY) -m pip install "$(TORCH)")
	$(PY) -m pip install -e ".[dev]"
	$(PY) -m pip install --no-deps "mtrl==1.0.0"
	@touch $(RUN_STAMP) $@
