"""Calls in a helper process: values, errors, the budget, and that no helper outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline.errors import StageError
from pipeline.limited import CPU_SECONDS, CallError, OutOfBudgetError, call

HERE = "tests.test_limited"


def add(a: float, b: float) -> float:
    print("this is no reply")
    return a + b


def spin(kind: str) -> int:
    while kind == "python":
        pass
    return len(str(9 ** (9**9)))


READY: list[str] = []


def prepare(*arguments: object) -> None:
    """Keeps the processor busy for longer than a call may, once."""
    if arguments == ("slow",) and not READY:
        until = time.process_time() + CPU_SECONDS + 0.5
        while time.process_time() < until:
            pass
        READY.append("yes")


def told(what: str) -> str:
    return f"{what}: {READY}"


def own_pid() -> int:
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def grab() -> int:
    return len(bytearray(64 << 30))


def test_values_and_what_the_function_prints():
    assert [call(f"{HERE}:add", i, 1) for i in range(3)] == [1, 2, 3]
    assert call(f"{HERE}:add", "a\ud800", "b") == "a\ud800b"


def test_an_error_is_raised_by_its_name():
    with pytest.raises(CallError, match="TypeError: ") as caught:
        call(f"{HERE}:add", 1, "b")
    assert caught.value.kind == "TypeError"
    with pytest.raises(CallError, match="MemoryError"):
        call(f"{HERE}:grab")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["python", "c"])
def test_a_call_that_never_ends_is_ended(kind: str):
    with pytest.raises(OutOfBudgetError):
        call(f"{HERE}:spin", kind)


@pytest.mark.slow
def test_what_a_call_needs_is_not_counted_against_it():
    assert call(f"{HERE}:told", "slow") == "slow: ['yes']"


def test_a_killed_helper_is_replaced_and_changes_no_outcome():
    assert call(f"{HERE}:own_pid") != os.getpid()
    os.kill(before := call(f"{HERE}:own_pid"), signal.SIGKILL)
    assert call(f"{HERE}:own_pid") != before


def test_a_call_that_kills_every_helper_is_given_up():
    with pytest.raises(CallError, match="died 2 times") as caught:
        call(f"{HERE}:die")
    assert caught.value.kind == "HelperDied"


def test_a_helper_that_cannot_start_is_an_error_and_not_a_verdict():
    with pytest.raises(StageError, match="did not start"):
        call("tests.stages.no_such_module:f")


def test_no_helper_outlives_a_killed_parent():
    code = (
        f"import time; from pipeline.limited import call; call('{HERE}:add', 1, 2); "
        "print('up', flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}, text=True
    )
    assert parent.stdout.readline() == "up\n"
    [helper] = psutil.Process(parent.pid).children()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while helper.is_running() and helper.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE
