# make quickstart: watch a model get better from its own answers.   make test: every test.   make lock: renew the lock file.
PYTHON_BIN := .venv/bin/python
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test setup lint lock clean

setup:
	@.ci/setup

quickstart: setup
	@$(PYTHON_BIN) -m jobs.iterate jobs/quickstart.yaml

test: setup lint
	@$(PYTHON_BIN) -m pytest

lint: setup
	@$(PYTHON_BIN) -m ruff check .

lock: setup
	@$(PYTHON_BIN) .ci/lock.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
