# make quickstart: a model improves on its own answers
# make check: lint, types and the fast tests    make test: every test    make lock: renew the lock file
PYTHON_BIN := .venv/bin/python
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart results check test fast suite setup lint lock clean

setup:
	@.ci/setup

quickstart: setup
	@$(PYTHON_BIN) -m jobs.iterate quickstart

# The comparison in the README: the quickstart over 3 seeds, with the data of all rounds kept or replaced,
# from the same round 0. Over an hour on 2 cores.
SEEDS := 0 1 2
results: setup
	@set -e; runs=; for seed in $(SEEDS); do \
	    run=data/runs/quickstart-$$seed; base=false; \
	    if [ $$seed = 0 ]; then run=data/runs/quickstart; base=true; fi; \
	    $(PYTHON_BIN) -m jobs.iterate quickstart --run $$run --set seed=$$seed \
	        --set evaluate.base_model=$$base; \
	    runs="$$runs $$run"; \
	done; \
	for run in $$runs; do \
	    [ -f $$run-replace/run.yaml ] || \
	        $(PYTHON_BIN) -m jobs.branch $$run --to $$run-replace --round 0 \
	            --set accumulate.policy=replace --set accumulate.keep_real=false; \
	    $(PYTHON_BIN) -m jobs.iterate $$run-replace/run.yaml --run $$run-replace; \
	    runs="$$runs $$run-replace"; \
	done; \
	$(PYTHON_BIN) -m jobs.compare $$runs

# Side by side: while the tests are collected, a core is free for the type checker.
check: setup
	@$(MAKE) --no-print-directory -j2 lint fast

test: setup
	@$(MAKE) --no-print-directory -j2 lint suite

fast:
	@.ci/test check

suite:
	@.ci/test

lint: setup
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m mypy

lock: setup
	@$(PYTHON_BIN) .ci/lock.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
