# make demo, make test, make ui: each sets up .venv first if need be. `make help` lists everything.

PYTHON ?= python3
VENV ?= .venv
# One more than the two cores it is made for, as some tests wait for a daemon's next look.
WORKERS ?= 3
MLASSETS_HOME ?= .mlassets

BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
TOOLS := $(VENV)/.tools-installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
CHROMIUM ?= /usr/bin/chromium

.PHONY: help demo test soak can-test ui bench lint format docs wheel constraints clean
.DEFAULT_GOAL := help

help: ## List what can be made.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(RUNTIME) ## Run the bundled example from landing files to a release, in a new home.
	@home=.mlassets; number=2; \
	while [ -e "$$home" ] && [ -n "$$(ls -A "$$home")" ]; do home=.mlassets-$$number; number=$$((number + 1)); done; \
	if [ "$$home" != .mlassets ]; then echo "make demo: .mlassets is in use and stays as it is; this demo lives in $$home"; fi; \
	$(BIN)/mlassets demo --home "$$home"

test: $(TOOLS) can-test ## Run the whole test suite, with WORKERS processes at a time.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

soak: $(TOOLS) can-test ## Kill 2,000 commits, and let crowds write to every kind of lake and catalog.
	$(BIN)/python -m pytest --kills 2000 --commits 200 --durations 0 mlassets_tests/resources/test_kills.py

can-test:
	@if [ ! -x $(CHROMIUM) ]; then \
		echo "the tests that look at Dagster's pages need $(CHROMIUM), and it is not there."; \
		echo "On Debian and Ubuntu: apt-get install chromium"; exit 1; fi
	@if ! command -v initdb > /dev/null && ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then \
		echo "the storage tests start a PostgreSQL of their own, and there is no initdb on PATH or in /usr/lib/postgresql."; \
		echo "On Debian and Ubuntu: apt-get install postgresql"; exit 1; fi
	@if ! ls /usr/lib/*/faketime/libfaketimeMT.so.1 > /dev/null 2>&1; then \
		echo "the storage tests move a process's clock with libfaketime, and it is not in /usr/lib/*/faketime."; \
		echo "On Debian and Ubuntu: apt-get install libfaketime"; exit 1; fi

ui: $(RUNTIME) ## Open Dagster on a home: make ui MLASSETS_HOME=.mlassets
	$(BIN)/mlassets ui --home "$(MLASSETS_HOME)"

bench: $(TOOLS) ## Print the benchmarks.
	$(BIN)/python -m mlassets_tests.benchmarks

lint: $(TOOLS) ## Style, types and the floors of the house.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TOOLS) ## Put the code in order.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(RUNTIME) ## Write the generated pages of docs/.
	$(BIN)/python docs/make_verdicts.py
	$(BIN)/python -m mlassets_tests.automation_page

wheel: $(RUNTIME) ## Build the wheel into dist/.
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
		--build-constraint constraints.txt --wheel-dir dist .

constraints: ## Write constraints.txt anew: the newest versions that pyproject.toml allows.
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --upgrade pip
	build/constraints/bin/python -m pip install --quiet '.[embeddings,team]' --group dev 'setuptools<81'
	{ grep '^#' constraints.txt; build/constraints/bin/python -m pip freeze --all | grep -v '^mlassets'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove the virtual environment, caches and builds. Homes (.mlassets) stay.
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { \
		echo "There is no $(PYTHON). Install Python 3.11, 3.12 or 3.13, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version); mlassets needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing mlassets into $(VENV); the first time takes a minute or two."
	$(PIP_INSTALL) pip
	$(PIP_INSTALL) --build-constraint constraints.txt --editable .
	@touch $@

$(TOOLS): $(RUNTIME)
	$(PIP_INSTALL) --group dev
	@touch $@
