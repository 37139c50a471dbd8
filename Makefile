# Each target works alone on a fresh machine with Python 3.11 or newer: the first one that runs makes
# .venv and installs into it; later ones start at once until pyproject.toml or constraints.txt change.

PYTHON ?= python3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/installed
VERSION_CHECK := import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	"Python %d.%d is too old: name Python 3.11 or newer with PYTHON=" % sys.version_info[:2])

.DELETE_ON_ERROR:
.PHONY: help sim test lint format types check install clean

help:
	@echo "make sim      run the simulator      ARGS='--help'"
	@echo "make test     run the tests          ARGS='tests/wire -k windows'"
	@echo "make lint     ruff, codespell, import-linter"
	@echo "make format   rewrite the files as ruff formats them"
	@echo "make types    mypy and pyright"
	@echo "make check    lint, types and test"
	@echo "make clean    remove .venv and everything that was built"

sim: $(STAMP)
	@$(RUN) -m flare_async.sim $(ARGS)

test: $(STAMP)
	@$(RUN) -m pytest -n 2 $(ARGS)

lint: $(STAMP)
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m codespell_lib .
	@$(RUN) $(VENV)/bin/lint-imports --no-logo

format: $(STAMP)
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

types: $(STAMP)
	@$(RUN) -m mypy -p flare_async
	@$(RUN) -m pyright

check: lint types test

install: $(STAMP)

# A virtual environment without pip is what an interrupted first run leaves behind.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(VERSION_CHECK)'
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV); later runs start at once" >&2
	@$(RUN) -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[sim,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info flare-runs .coverage .coverage.* .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
