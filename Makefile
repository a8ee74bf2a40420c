# Every target sets up its own environment first; only Python 3.11 or later is needed beforehand.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# More options for installing torch, for example an index that has CPU-only builds.
TORCH_PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
DOCS_STAMP := $(VENV)/.docs-stamp
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt

NEIGHBOURS_BIN := .venv-neighbours/bin
NEIGHBOURS_STAMP := .venv-neighbours/.stamp
NEIGHBOURS_PIP := $(NEIGHBOURS_BIN)/python -m pip install --quiet -c constraints-neighbours.txt

MIN_BIN := .venv-min/bin
MIN_STAMP := .venv-min/.stamp
MIN_PIP := $(MIN_BIN)/python -m pip install --quiet -c constraints-min.txt

# What `make coverage` runs; empty: all.
TESTS ?=
# What `make bench-compare` compares with; empty: the last tag.
REVISION ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-benchmarks test-neighbours test-pages docs test-docs fuzz lint types
.PHONY: bench bench-compare test-min coverage

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# The stamp is written last, so an interrupted installation is taken up again next time.
$(STAMP): setup.cfg constraints.txt
	@echo "Setting up $(VENV) with $(PYTHON) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(TORCH_PIP_ARGS) torch
	@$(PIP) -e '.[dev,plot,report]'
	@touch $@

demo: $(STAMP)  ## Train an autoencoder on real heartbeats, explain it, write report.html
	$(BIN)/python -m sklexplain report --out report.html

# One thread a worker: the two workers share the cores, and oversubscribed threads are slower.
test: $(STAMP)  ## Run the library's tests and the examples in docstrings
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --ignore tests/benchmarks

test-benchmarks: $(STAMP)  ## Run every benchmark script in a tiny size
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/benchmarks

$(NEIGHBOURS_STAMP): setup.cfg constraints-neighbours.txt
	@echo "Setting up .venv-neighbours with $(PYTHON) (a few minutes the first time)"
	@test -x $(NEIGHBOURS_BIN)/python || $(PYTHON) -m venv .venv-neighbours
	@$(NEIGHBOURS_PIP) $(TORCH_PIP_ARGS) torch
	@$(NEIGHBOURS_PIP) -e '.[neighbours]'
	@touch $@

test-neighbours: $(NEIGHBOURS_STAMP)  ## Run the tests with estimators of other libraries
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(NEIGHBOURS_BIN)/python -m pytest -n 2 tests/neighbours

$(MIN_STAMP): setup.cfg constraints-min.txt
	@echo "Setting up .venv-min with $(PYTHON) (a few minutes the first time)"
	@test -x $(MIN_BIN)/python || $(PYTHON) -m venv .venv-min
	@$(MIN_PIP) $(TORCH_PIP_ARGS) torch
	@$(MIN_PIP) -e '.[dev,plot,report]'
	@touch $@

test-min: $(MIN_STAMP)  ## Run the library's tests with the lowest versions that are supported
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(MIN_BIN)/python -m pytest -n 2 --ignore tests/benchmarks

# With the options in pyproject.toml; TESTS=tests/scores looks at one room.
coverage: $(STAMP)  ## Report which lines and branches no test runs
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --ignore tests/benchmarks \
		--cov --cov-report term-missing:skip-covered --cov-report html $(if $(TESTS),--cov-fail-under=0 $(TESTS))

test-pages: $(STAMP)  ## Look at reports in a browser: widths, dark mode, print (Node.js, Chromium)
	npm ci --prefix tests/pages --silent
	SKLEXPLAIN_PAGES=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest tests/pages

$(DOCS_STAMP): $(STAMP)
	@echo "Adding what the documentation is built with"
	@$(PIP) -e '.[docs,dask]'
	@touch $@

# Every page and every picture of the gallery; pictures whose example has not changed are kept.
docs: $(DOCS_STAMP)  ## Build the documentation: docs/_build/html/index.html
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m sphinx -n -W --keep-going docs docs/_build/html

test-docs: docs  ## Run the code of all pages, and look at them in a browser (Node.js, Chromium)
	@if command -v npm > /dev/null; then npm ci --prefix tests/pages --silent \
		|| echo "npm cannot install the browser checks: pages are not looked at in a browser" >&2; fi
	SKLEXPLAIN_DOCS=all OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_docs.py tests/pages/test_docs_pages.py

fuzz: $(STAMP)  ## Try many more Pipelines and networks drawn at random
	SKLEXPLAIN_FUZZ=many OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/fuzz tests/test_dask_processes.py

lint: $(STAMP)  ## Check style, imports, docstrings and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check the type hints
	$(BIN)/mypy

bench: $(STAMP)  ## Run the speed benchmarks, and write their page
	$(BIN)/python -m benchmarks speed

bench-compare: $(STAMP)  ## Speed now beside that of the last release, or of REVISION=...
	$(BIN)/python -m benchmarks.compare $(REVISION)
