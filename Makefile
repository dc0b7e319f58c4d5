# Everything a newcomer needs: `make demo` and `make test`. Both make their environment first and may be repeated.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-fast lint bench bench-filters bench-online bench-recipes bench-roles soak docs clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): pyproject.toml deploy/constraints.txt
	@echo "making the environment in $(VENV) (several minutes and 7 GB the first time: torch and ray)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tutelage needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[demo,dev]'
	@touch $(READY)

demo: $(READY)  ## a real corpus, curated, verified, learned from: a few minutes
	@$(BIN)/python -m jobs.demo

test: $(READY) lint  ## all tests on two processes, the longest files first: without Ray, then those that start it
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 5 -m "not ray and not soak"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15 -m "ray and not soak"

test-fast: $(READY) lint  ## the tests that start neither Ray nor an S3 server
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not ray and not s3 and not slow and not soak"

lint: $(READY)  ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo 2>&1 | tail -4; exit $${PIPESTATUS[0]}

bench: $(READY)  ## throughput beside its limits and beside webdataset + open_clip; appends to tests/bench/RESULTS.md
	@$(BIN)/python tests/bench/scoring.py

bench-filters: $(READY)  ## how filters grow from 1 to 10 million rows: time and memory; ARGS=--only NAME
	@$(BIN)/python tests/bench/filters.py $(ARGS)

bench-online: $(READY)  ## what online selection saves (wants npm); ARGS=--core: the main arms; all of it: hours
	@$(BIN)/python tests/bench/online_selection.py $(ARGS)

bench-roles: $(READY)  ## what scoring and learning cost on this machine's device, beside what it can do; minutes
	@$(BIN)/python tests/bench/roles.py $(ARGS)

bench-recipes: $(READY)  ## which recipes make data better, and what they find of planted noise (wants npm): an hour
	@$(BIN)/python tests/bench/recipes.py $(ARGS)

soak: $(READY)  ## the long proofs, and the kill tests again and again: SOAK_ROUNDS times (default 10)
	@$(BIN)/python -m pytest -m soak
	@for i in $$(seq $${SOAK_ROUNDS:-10}); do echo "round $$i"; $(BIN)/python -m pytest tests/faults || exit 1; done

docs: $(READY)  ## bring the rooms' pages and the picture of the house up to date with the code
	@$(BIN)/python docs/draw.py
	@$(BIN)/python -m jobs.commands.rooms

clean:  ## remove what `make demo` made
	rm -rf demo
