"""Which questions a round draws by how earlier rounds answered them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, StageError
from pipeline.ids import digest, unit_interval
from pipeline.many_ids import Places
from pipeline.round import Round, input_of
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.rundir import RunDir
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, PartEntry
from pipeline.store.parts import PartWriter
from stages.rounds.questions import drawn, pass_rates
from tests.conftest import tiny_recipe

TASKS = [f"q{i}" for i in range(10)]
RIGHT, WRONG, LOST = Kept([]), Dropped("wrong_answer", "", ""), Failed("EngineError", "", "")


def write(run: RunDir, folder: str, stage: str, outcomes: list[tuple[Row, Outcome]]) -> None:
    """Write a finished stage; RIGHT keeps the row as it is."""
    out = PartWriter(folder, folder, "00000")
    for row, outcome in outcomes:
        out.add(row, Kept([row]) if outcome is RIGHT else outcome)
    out.flush()
    [part] = parts.committed(folder)
    entries = [
        PartEntry(path=path.removeprefix(f"{run.root}/"), rows=part.counts.done, sha256=parts.sha256(path))
        for path in files.glob(folder, "part-*.arrow")
    ]
    Manifest(
        stage=stage,
        round=1,
        method="direct",
        fingerprint="f",
        rows_in=len(outcomes),
        rows_done=part.counts.done,
        rows_dropped=part.counts.dropped,
        rows_failed=part.counts.failed,
        rows_out=part.counts.done,
        parts=entries,
    ).write(folder)


@pytest.fixture
def answered(tmp_path: Path) -> RunDir:
    """A run of two rounds.

    Right answers of round 1: all 4 of q0, 3 of q1, 2 of q2, 1 of q3, none of q4; of round 2, which asked q0
    again, one of two. q5 has failed rows only, the others were not asked.
    """
    run = RunDir(tmp_path / "run")
    write(run, run.tasks("train"), "tasks", [(Row(q, {"task_id": q}), RIGHT) for q in TASKS])

    def judged(number: int, given: Mapping[str, tuple[Outcome, ...]]) -> None:
        rows = [
            (Row(f"{q}-{number}-{i}", {"task_id": q}), o)
            for q, all_ in given.items()
            for i, o in enumerate(all_)
        ]
        write(run, run.stage(number, "verify"), "verify", rows)

    judged(
        1,
        {f"q{i}": (RIGHT,) * (4 - i) + (WRONG,) * (i if i < 4 else 1) for i in range(5)}
        | {"q5": (LOST,) * 4},
    )
    cut_off = [(Row(f"q4-cut-{i}", {"task_id": "q4"}), Dropped("truncated", "", "")) for i in range(3)]
    write(run, run.stage(1, "filter"), "filter", cut_off)
    judged(2, {"q0": (RIGHT, WRONG)})
    return run


def asked(run: RunDir, number: int, **changes: Any) -> set[str]:
    return {row.id for row in drawn(Round(run, number, tiny_recipe(**changes))).rows()}


def rates(run: RunDir, number: int) -> dict[str, float]:
    found = pass_rates(Round(run, number, tiny_recipe()), Places(run.ids(run.tasks("train"))))
    return {q: rate for q, rate in zip(TASKS, found.tolist(), strict=True) if rate == rate}


def test_pass_rates_are_those_of_the_last_round_that_asked(answered: RunDir) -> None:
    assert rates(answered, 1) == {}
    first = {"q0": 1, "q1": 0.75, "q2": 0.5, "q3": 0.25, "q4": 0}
    assert rates(answered, 2) == first
    assert rates(answered, 3) == first | {"q0": 0.5}


def test_questions_out_of_bounds_are_not_drawn(answered: RunDir) -> None:
    unsolved, both = {"max_pass_rate": 0.99}, {"min_pass_rate": 0.01, "max_pass_rate": 0.75}
    assert asked(answered, 1, draw=unsolved) == set(TASKS), "no round has asked anything yet"
    assert asked(answered, 2, draw=unsolved) == set(TASKS) - {"q0"}
    assert asked(answered, 2, draw=both) == set(TASKS) - {"q0", "q4"}
    assert asked(answered, 3, draw=both) == set(TASKS) - {"q4"}
    some = asked(answered, 2, draw=both, questions_per_round=3)
    assert len(some) == 3 and some == asked(answered, 2, draw=both, questions_per_round=3)
    assert some != asked(answered, 2, draw=both, questions_per_round=3, seed=1)
    assert asked(answered, 2, draw=both, questions_per_round=9) == set(TASKS) - {"q0", "q4"}


def test_without_bounds_nothing_changes(answered: RunDir) -> None:
    plain, bounded = (
        drawn(Round(answered, 2, tiny_recipe(questions_per_round=4, **changes))).digest
        for changes in ({}, {"draw": {"min_pass_rate": 0, "max_pass_rate": 1}})
    )
    assert plain == bounded


def test_what_cannot_be_drawn_is_said(answered: RunDir) -> None:
    write(
        answered,
        answered.stage(3, "verify"),
        "verify",
        [(Row(f"{q}-3", {"task_id": q}), RIGHT) for q in TASKS],
    )
    with pytest.raises(StageError, match=r"none of 10 questions have a pass rate from 0 to 0\.5"):
        asked(answered, 4, draw={"max_pass_rate": 0.5})
    with pytest.raises(ConfigError, match="min_pass_rate 0.5 is above max_pass_rate 0.4"):
        tiny_recipe(draw={"min_pass_rate": 0.5, "max_pass_rate": 0.4})
    with pytest.raises(ConfigError, match="no effect with new_questions"):
        tiny_recipe(draw={"max_pass_rate": 0.5}, new_questions=True, questions_per_round=2)
    with pytest.raises(StageError, match="run this stage first"):
        asked(answered, 5, draw={"max_pass_rate": 0.5})


def test_new_questions_are_those_of_the_smallest_hashes_that_no_round_has_asked(tmp_path: Path) -> None:
    """Round 1 asked four, one of them made by the model; what round 2 asked is not known (a branch)."""
    run, names = RunDir(tmp_path / "run"), [f"é{i}" for i in range(30)]
    write(run, run.tasks("train"), "tasks", [(Row(q, {"task_id": q}), RIGHT) for q in names])
    given = [*names[3:6], "made"]
    write(run, run.stage(1, "generate"), "generate", [(Row(q, {"task_id": q}), RIGHT) for q in given])

    def smallest(ids: set[str], number: int) -> set[str]:
        return set(sorted(ids, key=lambda i: unit_interval(7, "questions", number, i))[:5])

    left = set(names) - set(given)
    left -= smallest(left, 2)
    chosen = smallest(left, 3)
    source = drawn(Round(run, 3, tiny_recipe(seed=7, new_questions=True, questions_per_round=5)))
    assert [row.id for row in source.rows()] == [q for q in names if q in chosen] and source.count == 5
    assert source.digest == digest([input_of(run, run.tasks("train")).digest, sorted(chosen)])
    with pytest.raises(StageError, match="round 3: 11 of 30 tasks have not been asked before"):
        drawn(Round(run, 3, tiny_recipe(seed=7, new_questions=True, questions_per_round=16)))
