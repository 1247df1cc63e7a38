# minitill: everything a person starts here starts with `make`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PORT   ?= 5000

.PHONY: help run test quick check format bench simulate fuzz lock clean

help:
	@echo "make run     the service beside a WeChat Pay simulator, on port $(PORT): no account needed"
	@echo "make test    the whole test suite          make quick   the fast ones alone"
	@echo "make check   ruff, mypy --strict, import-linter"
	@echo "make bench   the load benchmark            make lock    refresh the pinned versions"

$(VENV)/run.ok: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "minitill needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "python venv is missing; on Debian: apt install python3-venv"; rm -rf $(VENV); exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.ok: $(VENV)/run.ok requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

run: $(VENV)/run.ok
	@$(BIN)/minitill serve --sandbox --port $(PORT)

test: $(VENV)/dev.ok
	$(BIN)/python -m pytest

quick: $(VENV)/dev.ok
	$(BIN)/python -m pytest -m "not slow and not wire"

check: $(VENV)/dev.ok
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.ok
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A longer simulation, by fresh seeds: make simulate SECONDS=600
SECONDS ?= 60
simulate: $(VENV)/dev.ok
	$(BIN)/python -m pytest -q tests/test_simulation.py --timeout=0 --simulate-seconds=$(SECONDS)

# Strangers' bytes, led by coverage: make fuzz SECONDS=600; what breaks something is kept in tests/corpus/any
fuzz: $(VENV)/dev.ok
	$(BIN)/python -m tests.fuzzing $(SECONDS)

bench: $(VENV)/dev.ok
	$(BIN)/python -m bench

# Two lists, both hashed and without a registry's address: what runs, and what tests and checks need on top.
lock: $(VENV)/run.ok
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --upgrade pyproject.toml requirements-build.in -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --upgrade pyproject.toml requirements-build.in --group dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) .sandbox build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
