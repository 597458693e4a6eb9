#!/usr/bin/env bash
# What only a GPU shows, in at most 10 minutes and with nothing to fetch: tests/gpu/check.sh [--without-vllm]
cd "$(dirname "$0")/../.." && HF_HUB_OFFLINE=1 exec "${PYTHON:-.venv/bin/python}" -m tests.gpu.check "$@"
