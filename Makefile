# A newcomer needs `make demo` and `make test`. Both make their environment first and can be repeated.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A worker takes a whole file. With a replacement for a dead worker, `loadfile` waits for ever (pytest-xdist issue 1378).
PARALLEL := --dist loadfile --no-loadscope-reorder --max-worker-restart=0

.PHONY: help demo test test-fast coverage lint bench bench-diagnosis bench-filters bench-labels bench-loop bench-online bench-recipes bench-roles soak docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): pyproject.toml deploy/constraints.txt
	@echo "making the environment in $(VENV) (several minutes and 7 GB the first time: torch and ray)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tutelage needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c deploy/constraints.txt -e '.[demo,dev]'
	@touch $(READY)

demo: $(READY)  ## a real corpus, curated, verified, learned from: a few minutes
	@$(BIN)/python -m jobs.demo

test: $(READY)  ## all tests in parallel, longest files first: without Ray (beside lint), then those that start it
	@$(MAKE) --no-print-directory lint & lint=$$!; \
	  $(BIN)/python -m pytest -n 3 $(PARALLEL) --durations 5 -m "not ray and not soak"; \
	  tests=$$?; wait $$lint && exit $$tests
	@$(BIN)/python -m pytest -n 2 $(PARALLEL) --durations 15 -m "ray and not soak" \
	  $$(grep -rl "mark\.ray" tests --include="test_*.py")

test-fast: $(READY)  ## two minutes: no Ray, no S3 server, no slow test
	@HYPOTHESIS_EXAMPLES=25 $(BIN)/python -m pytest -n 2 $(PARALLEL) \
	  -m "not ray and not s3 and not slow and not soak" $(ARGS)

coverage: $(READY)  ## lines and branches that the tests without Ray reach, with subprocesses; ARGS='-m "not soak"': all
	@$(BIN)/python -m pytest -n 2 $(PARALLEL) --cov --cov-report=term -m "not ray and not soak" $(ARGS)

lint: $(READY)  ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo 2>&1 | tail -4; exit $${PIPESTATUS[0]}

bench: $(READY)  ## throughput beside its limits and peers; writes docs/results/throughput.md; ARGS=--quick: minutes
	@$(BIN)/python tests/bench/scoring.py $(ARGS)

bench-diagnosis: $(READY)  ## planted causes of failures, found and repaired (TUTELAGE_BENCH_DATA); 20 minutes; ARGS=--quick
	@$(BIN)/python tests/bench/failure_analysis.py $(ARGS)

bench-filters: $(READY)  ## time and memory of filters, from 1 to 10 million rows; ARGS=--only NAME
	@$(BIN)/python tests/bench/filters.py $(ARGS)

bench-labels: $(READY)  ## answers that label cleaning saves (TUTELAGE_BENCH_DATA); 15 minutes; ARGS=--quick: two
	@$(BIN)/python tests/bench/label_cleaning.py $(ARGS)

bench-online: $(READY)  ## what online selection saves (needs npm); ARGS=--core: the main arms; all arms: hours
	@$(BIN)/python tests/bench/online_selection.py $(ARGS)

bench-roles: $(READY)  ## speed of scoring and learning on this machine's device, beside its limit; minutes
	@$(BIN)/python tests/bench/roles.py $(ARGS)

bench-loop: $(READY)  ## rate of a learner's loop beside the bare training step's; 20 minutes; ARGS=--quick: minutes
	@$(BIN)/python tests/bench/learning_loop.py $(ARGS)

bench-recipes: $(READY)  ## which recipes make data better, and which planted noise they find (needs npm): an hour
	@$(BIN)/python tests/bench/recipes.py $(ARGS)

soak: $(READY)  ## the long tests, then the kill tests SOAK_ROUNDS times (default 10)
	@$(BIN)/python -m pytest -m soak
	@for i in $$(seq $${SOAK_ROUNDS:-10}); do echo "round $$i"; $(BIN)/python -m pytest tests/faults || exit 1; done

docs: $(READY)  ## update the rooms' pages and the pictures of docs/ from the code
	@$(BIN)/python docs/draw.py
	@$(BIN)/python docs/flow.py
	@$(BIN)/python docs/fields.py
	@$(BIN)/python -m jobs.commands.rooms

clean:  ## remove the output of `make demo`
	rm -rf demo
