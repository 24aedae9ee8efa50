# Everything happens in .venv; nothing is installed or configured outside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
# First and by itself, so that the build that fits this machine is chosen; the same version as in constraints.txt.
TORCH := torch==2.13.0

.PHONY: setup check format test slow quickstart clean

setup: $(STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

check: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# A file's tests stay together: they share what took long to make, and ports.
test: $(STAMP)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

slow: $(STAMP)
	$(BIN)/pytest -m slow

quickstart: $(STAMP)
	$(BIN)/robot-rlpd quickstart

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find robot_rlpd demos deploy sim benchmarks tests -name __pycache__ -prune -exec rm -rf {} +
