"""Hostile programs: none passes, none gets out, none leaves a process or a file."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from stages.sandbox import Job, Limits, Outcome, Sandbox, isolation_problem
from tests.stages.sandbox.hostile import PROGRAMS

LIMITS = Limits(seconds=4, cpu_seconds=2, memory=512 << 20, output=1 << 16)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(isolation_problem()), reason=f"no isolation: {isolation_problem()}"),
]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Every program's outcome, two at a time."""
    sandbox = Sandbox(size=2)

    def run(code: str) -> Outcome:
        return sandbox.run(Job(code=code, asserts="assert f(1) == 2", entry_point="f", limits=LIMITS))

    before = set(descendants())
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(PROGRAMS, pool.map(run, PROGRAMS.values()), strict=True))
    sandbox.close()
    end = time.monotonic() + 5
    while time.monotonic() < end and set(descendants()) - before:
        time.sleep(0.05)
    assert not set(descendants()) - before, "a process is left"
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_hostile_program_passes(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcomes[name].passed == 0 and outcomes[name].error, outcomes[name]


def test_no_file_is_left(outcomes: dict[str, Outcome]) -> None:
    assert not os.path.exists("/escaped") and not os.path.exists("/tmp/escaped")


def descendants() -> list[int]:
    return [p.pid for p in psutil.Process().children(recursive=True)]
