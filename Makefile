# make quickstart: watch a model get better from its own answers.   make test: every test.   make lock: renew the lock file.
PYTHON_BIN := .venv/bin/python
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart results test setup lint lock clean

setup:
	@.ci/setup

quickstart: setup
	@$(PYTHON_BIN) -m jobs.iterate jobs/quickstart.yaml

# The comparison in the README: over 3 seeds, the data of all rounds kept or replaced, from the same round 0. About an hour on 2 cores.
SEEDS := 1 2 3
RESULTS := data/runs/chain_sum
results: setup
	@for seed in $(SEEDS); do \
	    all=$(RESULTS)-all-$$seed; replace=$(RESULTS)-replace-$$seed; \
	    $(PYTHON_BIN) -m jobs.iterate jobs/chain_sum.yaml --run $$all --set seed=$$seed || exit 1; \
	    [ -f $$replace/run.yaml ] || $(PYTHON_BIN) -m jobs.branch $$all --to $$replace --round 0 \
	        --set accumulate.policy=replace --set accumulate.keep_real=false || exit 1; \
	    $(PYTHON_BIN) -m jobs.iterate $$replace/run.yaml --run $$replace || exit 1; \
	done
	@$(PYTHON_BIN) -m jobs.compare $(RESULTS)-*

test: setup lint
	@$(PYTHON_BIN) -m pytest

lint: setup
	@$(PYTHON_BIN) -m ruff check .

lock: setup
	@$(PYTHON_BIN) .ci/lock.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
