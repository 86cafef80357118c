# make compare   installs what the main job needs into .venv and runs it
# make parity    makes docs/parity.md again: every schedule of every peer, with the differences measured
# make test      installs everything into .venv and runs lint, types and tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: compare parity test check lint types tests clean

compare: $(VENV)/.compare
	$(BIN)/ratewise compare digits

parity: $(VENV)/.dev
	cd tests && $(abspath $(BIN))/python -m parity.page

test: $(VENV)/.dev
	$(MAKE) -j 2 check

check: lint types tests

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

tests: lint  # two workers: a thread each
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.compare: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[torch,lab,plot,cli]"
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt peers.txt
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps -r peers.txt
	touch $@ $(VENV)/.compare

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
