# make quickstart: watch a model get better from its own answers.   make test: every test.   make lock: renew the lock file.
PYTHON_BIN := .venv/bin/python
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart results test setup lint lock clean

setup:
	@.ci/setup

quickstart: setup
	@$(PYTHON_BIN) -m jobs.iterate jobs/quickstart.yaml

# The comparison in the README: the quickstart over 3 seeds, the data of all rounds kept or replaced, from the same round 0. About an hour on 2 cores.
SEEDS := 0 1 2
RUNS := data/runs
results: quickstart
	@set -e; for seed in $(filter-out 0,$(SEEDS)); do \
	    $(PYTHON_BIN) -m jobs.iterate jobs/quickstart.yaml --run $(RUNS)/quickstart-$$seed --set seed=$$seed --set evaluate.base_model=false; \
	done; \
	for seed in $(SEEDS); do \
	    all=$(RUNS)/quickstart-$$seed; [ $$seed != 0 ] || all=$(RUNS)/quickstart; replace=$(RUNS)/quickstart-replace-$$seed; \
	    [ -f $$replace/run.yaml ] || $(PYTHON_BIN) -m jobs.branch $$all --to $$replace --round 0 \
	        --set accumulate.policy=replace --set accumulate.keep_real=false; \
	    $(PYTHON_BIN) -m jobs.iterate $$replace/run.yaml --run $$replace; \
	done
	@$(PYTHON_BIN) -m jobs.compare $(RUNS)/quickstart $(RUNS)/quickstart-*

test: setup lint
	@$(PYTHON_BIN) -m pytest

lint: setup
	@$(PYTHON_BIN) -m ruff check .

lock: setup
	@$(PYTHON_BIN) .ci/lock.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
