# make quickstart: watch a model get better from its own answers.   make test: every test.   make lock: renew the lock file.
PYTHON_BIN := .venv/bin/python
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart results test setup lint lock clean

setup:
	@.ci/setup

quickstart: setup
	@$(PYTHON_BIN) -m jobs.iterate jobs/quickstart.yaml

# The comparison in the README: 3 seeds, the data of all rounds kept or replaced. About an hour on 2 cores.
SEEDS := 1 2 3
results: setup
	@for seed in $(SEEDS); do for policy in all replace; do \
	    $(PYTHON_BIN) -m jobs.iterate jobs/chain_sum.yaml --run data/runs/chain_sum-$$policy-$$seed --set seed=$$seed \
	        --set accumulate.policy=$$policy --set accumulate.keep_real=$$([ $$policy = all ] && echo true || echo false) || exit 1; \
	done; done
	@$(PYTHON_BIN) -m jobs.compare data/runs/chain_sum-*

test: setup lint
	@$(PYTHON_BIN) -m pytest

lint: setup
	@$(PYTHON_BIN) -m ruff check .

lock: setup
	@$(PYTHON_BIN) .ci/lock.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
