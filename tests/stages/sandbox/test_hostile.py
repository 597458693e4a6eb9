"""Hostile programs: none passes, none gets out, none leaves a process or a file."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from stages.sandbox import Job, Limits, Outcome, Sandbox, describe_isolation
from tests.stages.sandbox.hostile import PROGRAMS

LIMITS = Limits(seconds=4, cpu_seconds=2, memory=512 << 20, output=1 << 16)

pytestmark = pytest.mark.skipif(
    describe_isolation().startswith("none"), reason=f"isolation: {describe_isolation()}"
)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Every program's outcome, two at a time."""
    sandbox = Sandbox(size=2)

    def run(code: str) -> Outcome:
        return sandbox.run(Job(code=code, asserts="assert f(1) == 2", entry_point="f", limits=LIMITS))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PROGRAMS, pool.map(run, PROGRAMS.values()), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_hostile_program_passes(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcomes[name].passed == 0 and outcomes[name].error, outcomes[name]


def test_nothing_is_left(outcomes: dict[str, Outcome]) -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end and len(descendants()) > 4:
        time.sleep(0.1)
    assert len(descendants()) <= 4, descendants()  # two sandbox processes, each with its parent
    assert not os.path.exists("/escaped") and not os.path.exists("/tmp/escaped")


def descendants() -> list[str]:
    found = (p for p in psutil.Process().children(recursive=True) if p.is_running())
    return [" ".join(p.cmdline()) for p in found if any("sandbox/server.py" in a for a in p.cmdline())]
