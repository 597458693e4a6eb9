"""Run the tests in several processes that take test files from one queue, the longest first.

    python -m tests.parallel [check] [pytest arguments]

`check` leaves out every test that starts vLLM, Ray or a training run, and those marked slow. Each process is
a pytest of its own with this module as a plugin: it collects all tests, then claims one file after another
until none is left. All tests that need a vLLM engine are one entry of the queue, so they share one engine
and there is never a second one. The last line states the totals.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

CHECK = "not (vllm or ray or train or cluster or slow)"
# Entries that take over half a minute, longest first. What is not named follows in the order of collection.
LONGEST = (
    "vllm",
    "tests/faults/test_driver_killed.py",
    "tests/cluster/test_job_submit.py",
    "tests/training/test_resume.py",
    "tests/training/test_dpo.py",
    "tests/runner/test_runner.py",
    "tests/stages/arena/test_arena.py",
    "tests/training/test_launch.py",
    "tests/stages/sandbox/test_solutions.py",
    "tests/jobs/test_real_recipes.py",
    "tests/stages/methods/test_own_method.py",
    "tests/stages/rounds/test_preference_loop.py",
    "tests/stages/rounds/test_loop.py",
    "tests/stages/methods/entigraph/test_entigraph_loop.py",
    "tests/training/test_models.py",
    "tests/faults/test_trees_killed.py",
)
GIB_PER_PROCESS = 4
MOST_PROCESSES = 6
KILL_SECONDS = 60.0
INTERRUPTED = 130


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--queue", type=Path, help="folder in which processes claim test files (set by tests.parallel)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--queue"):
        config.pluginmanager.register(Worker(config.getoption("--queue")), "queue-worker")


class Worker:
    """The part of a pytest process that takes its tests from the queue and notes how they ended."""

    def __init__(self, queue: Path) -> None:
        self._queue, self._began = queue, time.monotonic()
        self._counts: Counter[str] = Counter()
        self._skipped: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run files as they are claimed.

        The next one is claimed before the last test of a file, for pytest to know which fixtures to keep.
        """
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        self._note(collected=len(session.items))
        claimed = self._claimed(session)
        name, items = next(claimed, ("", []))
        while items:
            began, before = time.monotonic(), Counter(self._counts)
            following: tuple[str, list[pytest.Item]] = ("", [])
            for this, later in zip(items, [*items[1:], None], strict=True):
                if later is None:
                    following = next(claimed, following)
                    later = next(iter(following[1]), None)
                session.config.hook.pytest_runtest_protocol(item=this, nextitem=later)
                if session.shouldfail or session.shouldstop:
                    raise session.Interrupted(str(session.shouldfail or session.shouldstop))
            ended = self._counts - before
            self._note(name=name, seconds=time.monotonic() - began, counts=ended, ended=True)
            name, items = following
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._counts["skipped"] += 1
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._note(skipped=f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")
        elif report.failed:
            self._counts["failed"] += 1
        elif report.when == "call":
            self._counts["passed"] += 1

    def _claimed(self, session: pytest.Session) -> Iterator[tuple[str, list[pytest.Item]]]:
        for name, items in entries(session.items):
            try:
                os.close(os.open(self._queue / f"claim-{quote(name, safe='')}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            self._note(name=name)
            yield name, items

    def _note(self, **what: object) -> None:
        with open(self._queue / f"notes-{os.getpid()}", "a") as f:
            f.write(json.dumps(what) + "\n")


def entries(items: list[pytest.Item]) -> list[tuple[str, list[pytest.Item]]]:
    """Return what can be claimed: the items of each file, and those marked `vllm` together."""
    found: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = "vllm" if item.get_closest_marker("vllm") else item.nodeid.partition("::")[0]
        found.setdefault(name, []).append(item)
    longest = {name: i for i, name in enumerate(LONGEST)}
    return sorted(found.items(), key=lambda entry: longest.get(entry[0], len(longest)))


class Process:
    """One pytest process, as the caller sees it."""

    def __init__(self, queue: Path, number: int, arguments: list[str]) -> None:
        self.log = queue / f"log-{number}"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.parallel",
            f"--queue={queue}",
            "-p",
            "no:cacheprovider",
        ]
        # The rewritten assertions of all tests take half of the collection: once is enough.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, env=environment)
        self._notes = queue / f"notes-{self._process.pid}"
        self._read, self.at, self.collected = 0, "", 0
        self.counts: Counter[str] = Counter()
        self.skipped: list[str] = []

    @property
    def status(self) -> int | None:
        return self._process.poll()

    def follow(self) -> Iterator[str]:
        """Yield a line for each entry that has ended since the last call."""
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        for note in map(json.loads, lines[self._read :]):
            self.collected = note.get("collected", self.collected)
            self.skipped += [note["skipped"]] if "skipped" in note else []
            if note.get("ended"):
                self.counts.update(note["counts"])
                self.at = ""
                yield f"{note['seconds']:6.1f} s  {note['name']}: {totals(note['counts'])}"
            else:
                self.at = note.get("name", self.at)
        self._read = len(lines)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


def totals(counts: dict[str, int]) -> str:
    """Return "N passed, N failed", and the skipped ones where there are any."""
    skipped = f", {counts['skipped']} skipped" if counts.get("skipped") else ""
    return f"{counts.get('passed', 0)} passed, {counts.get('failed', 0)} failed{skipped}"


def how_many(check: bool) -> int:
    """Return how many processes pay.

    Much of the time is waiting for processes to start and end, but not with `check`.
    """
    cores, gib = os.cpu_count() or 1, psutil.virtual_memory().total >> 30
    return max(1, min(cores + (not check), gib // GIB_PER_PROCESS, MOST_PROCESSES))


def run(queue: Path, check: bool, arguments: list[str]) -> int:
    """Run the tests; print a line for each file and the output of processes with failures.

    Returns the exit status.
    """
    began = time.monotonic()
    if check:
        arguments = ["-m", CHECK, *arguments]
    processes = [Process(queue, 0, arguments)]
    try:
        while any(p.status is None for p in processes):
            time.sleep(0.2)
            for line in (line for p in processes for line in p.follow()):
                print(line, flush=True)
            if len(processes) == 1 and processes[0].collected:  # what it compiled, the others need not
                processes += [Process(queue, i, arguments) for i in range(1, how_many(check))]
    except KeyboardInterrupt:
        for process in processes:
            process.interrupt()
        return INTERRUPTED
    for line in (line for p in processes for line in p.follow()):
        print(line)
    counts = sum((p.counts for p in processes), Counter())
    for process in processes:
        if process.status:
            print(f"\n{process.log.read_text(errors='replace')}")
        if process.at:  # it ended, or was ended, in the middle of a file
            counts["failed"] += 1
            print(f"error: a test process ended with status {process.status} in {process.at}")
    for line in sorted(line for p in processes for line in p.skipped):
        print(f"skipped: {line}")
    status = next((p.status for p in processes if p.status), 0)
    missing = max(p.collected for p in processes) - counts.total()
    if not status and missing > 0:
        status = 1
        print(f"error: {missing} tests were collected but not run")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"{minutes} min {seconds} s")
    print(totals(counts))
    return status


def main(arguments: list[str]) -> int:
    check = arguments[:1] == ["check"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="selfloop-tests-") as queue:
        return run(Path(queue), check, arguments[check:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
