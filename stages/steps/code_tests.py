"""The verifier code_tests: run the program in an answer against its task's tests, in a sandbox."""

import functools
import os
from typing import Any

from pipeline.console import progress
from pipeline.errors import ConfigError, DataError
from stages.sandbox import Job, Sandbox, isolation_problem
from stages.sandbox.client import MEANS, NO_ISOLATION
from stages.sandbox.layouts import read_program
from stages.steps.verifiers import Verdict

UNISOLATED = "SELFLOOP_UNISOLATED"  # run programs even where the kernel grants no isolation


def unisolated() -> bool:
    """Tell whether programs may run where the kernel grants no isolation."""
    return os.environ.get(UNISOLATED) == "1"


def check_isolation() -> None:
    """Say what keeps programs in on this machine.

    Raises ConfigError if nothing does, unless that is allowed.
    """
    problem = isolation_problem()
    if problem and not unisolated():
        raise ConfigError(f"verifier code_tests: {NO_ISOLATION.format(problem=problem)}")
    means = f"NO isolation ({problem})" if problem else MEANS
    progress.print(f"code_tests: programs run with {means}", markup=False)


@functools.cache
def sandbox() -> Sandbox:
    """Return this process's sandbox."""
    return Sandbox(unisolated())


def code_tests(payload: dict[str, Any]) -> Verdict:
    """Correct if all tests pass; the score is the share that do.

    Problems: no_program, tests_unsupported (a test hands the program something that is no plain data). Raises
    DataError for a task without tests, ConfigError where programs cannot be isolated.
    """
    tests = payload.get("tests")
    if not tests:
        raise DataError(
            f"task {payload.get('task_id')!r} has no tests: verifier code_tests needs tasks.columns.tests"
        )
    program = read_program(payload["text"])
    if program is None:
        return Verdict(False, None, "no_program", None)
    outcome = sandbox().run(Job(code=program, **tests))
    problem = "tests_unsupported" if outcome.error.startswith("unsupported:") else ""
    share = outcome.passed / outcome.total if outcome.total else 0.0
    right = bool(outcome.total) and outcome.passed == outcome.total and not problem
    failed = "" if right else f"{outcome.passed} of {outcome.total} tests pass. {outcome.error}"
    return Verdict(right, program, problem, share, failed)


code_tests.waits = True  # type: ignore[attr-defined]
