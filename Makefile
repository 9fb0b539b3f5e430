# One command each, from a fresh clone: `make demo`, `make test`. The environment is made once and again only when its lock changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOG := $(VENV)/install.log
LANES := -n 2 --no-loadscope-reorder
LOCK := requirements/cpu.txt requirements/dev.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-deps --no-input
# The usual index has only the CUDA build of PyTorch; this is PyTorch's own public index of CPU builds.
TORCH_CPU := https://download.pytorch.org/whl/cpu

# Nothing is reported to anyone: vLLM, Ray and Hugging Face count their users unless told not to.
export VLLM_NO_USAGE_STATS := 1
export DO_NOT_TRACK := 1
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help setup demo serve test test-long chaos soak check bench clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(VENV)/installed  ## make the environment in .venv

demo: setup  ## the main job on the embedded world; no downloads, no GPU
	@$(BIN)/python -m jobs.judgment --preset world

serve: setup  ## the judgment service on the judge that `make demo` trained, with a page at http://127.0.0.1:8700
	@$(BIN)/python -m serve

test: setup  ## every test that needs no GPU and no patience, in two lanes: each waits for processes to start half of its time
	@$(BIN)/python -m pytest $(LANES)

test-long: setup  ## the tests that take minutes as well
	@$(BIN)/python -m pytest -m "not gpu and not chaos and not soak"

chaos: setup  ## workers and replicas killed, judges swapped, for minutes and under load; it prints what came of it
	@$(BIN)/python -m pytest -s -m chaos --timeout 7200

soak: setup  ## the service under load for an hour, and beyond its capacity: does it grow, does it give way
	@$(BIN)/python -m pytest -s -m soak --timeout 7200

check: setup  ## ruff, mypy --strict, the tests of units and of the service
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/unit tests/serve

bench: setup  ## how fast it is beside its limits and what else one would use: half an hour, nothing else running
	@$(BIN)/python -m benchmarks

clean:  ## remove caches and build leftovers; experiments and .venv stay
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(VENV)/installed: $(VENV)/locked pyproject.toml
	@$(PIP) --no-build-isolation -e . >$(LOG) 2>&1 || { cat $(LOG); exit 1; }
	@touch $@

$(VENV)/locked: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "know-thyself needs Python 3.11 or newer, as PYTHON=...: $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo "installing the locked environment into $(VENV): two to four minutes, once"
	@$(PIP) $(LOCK:%=-r %) >$(LOG) 2>&1 || $(PIP) --retries 1 --extra-index-url $(TORCH_CPU) $(LOCK:%=-r %) >>$(LOG) 2>&1 || \
	    { cat $(LOG); exit 1; }
	@touch $@
