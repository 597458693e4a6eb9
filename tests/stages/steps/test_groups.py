"""Steps that decide about rows among those of their group: with files as without, as a plain pass does."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.ids import unit_interval
from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.steps import groups
from stages.steps.dedup import exact_duplicates
from stages.steps.filters import cap_per_question
from stages.steps.grouping import by_question
from stages.steps.solved import ANSWERS, SOLVED, marked
from stages.steps.verifiers import MIN_VOTES, majority_vote

CASES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
rows_of_questions = st.lists(st.tuples(st.integers(0, 5), st.sampled_from("xyz")), max_size=40).map(
    lambda drawn: [
        Row(
            f"r{(i * 7) % 41:02}",
            {
                "task_id": f"task {question}",
                "question": f"q{question}",
                "text": text,
                "answer_type": "text",
                "vote": {"key": text, "extracted": f"{text} as in {i}"},
                ANSWERS: 3,
            },
        )
        for i, (question, text) in enumerate(drawn)
    ]
)


@pytest.fixture(params=["in memory", "in files"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "in files":
        monkeypatch.setattr(groups, "IN_MEMORY", 2)
        monkeypatch.setattr(groups, "SHARES", 3)
        monkeypatch.setattr(groups.Share.__init__, "__defaults__", ((), 2))
    yield


def outcomes(step: DatasetStep, rows: list[Row]) -> list[tuple[Any, ...]]:
    found = step(lambda: iter(rows))
    return [(row.id, row.payload, why and (why.reason, why.detail, why.adds)) for row, why in found]


def same_as(step: DatasetStep, rows: list[Row], expected: Callable[[Row], Dropped | None]) -> None:
    wanted = [(row.id, (why := expected(row)) and (why.reason, why.detail)) for row in rows]
    assert [(i, why and why[:2]) for i, _, why in outcomes(step, rows)] == wanted


@CASES
@given(
    rows=rows_of_questions, earlier=st.lists(st.tuples(st.integers(0, 5), st.sampled_from("xyz")), max_size=4)
)
def test_exact_duplicates(anywhere: None, rows: list[Row], earlier: list[tuple[int, str]]) -> None:
    before = [(f"q{question}", text) for question, text in earlier]

    def expected(row: Row) -> Dropped | None:
        same = [r.id for r in rows if all(r.payload[k] == row.payload[k] for k in ("question", "text"))]
        if (row.payload["question"], row.payload["text"]) in before:
            return Dropped("duplicate", "of an answer of an earlier round")
        return None if row.id == min(same) else Dropped("duplicate", f"of row {min(same)}")

    same_as(exact_duplicates(lambda: before), rows, expected)


@CASES
@given(rows=rows_of_questions)
def test_votes(anywhere: None, rows: list[Row]) -> None:
    def expected(row: Row) -> Dropped | None:
        mine = [r.payload["vote"] for r in rows if r.payload["task_id"] == row.payload["task_id"]]
        counts, key = Counter(v["key"] for v in mine), row.payload["vote"]["key"]
        (winner, most), *others = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if most < MIN_VOTES:
            return Dropped("too_few_votes", f"{most} for the most frequent answer, {MIN_VOTES} needed")
        if others and others[0][1] == most:
            return Dropped("tie", f"{winner} and {others[0][0]} have {most} votes each")
        said = row.payload["vote"]["extracted"]
        detail = f"{said} has {counts[key]} votes, {winner} {most}"
        return None if key == winner else Dropped("minority", detail)

    same_as(majority_vote, rows, expected)
    for row, payload in (
        (row, p) for row, (_, p, why) in zip(rows, outcomes(majority_vote, rows), strict=True) if not why
    ):
        mine = [r.payload["vote"]["key"] for r in rows if r.payload["task_id"] == row.payload["task_id"]]
        assert payload["verdict"]["score"] == mine.count(row.payload["vote"]["key"]) / len(mine)


@CASES
@given(rows=rows_of_questions, n=st.integers(1, 3))
def test_caps_and_solved_questions(anywhere: None, rows: list[Row], n: int) -> None:
    def of_question(row: Row) -> list[Row]:
        return [r for r in rows if r.payload["task_id"] == row.payload["task_id"]]

    def expected(row: Row) -> Dropped | None:
        first = sorted(of_question(row), key=lambda r: unit_interval(7, r.id))[:n]
        over = Dropped("over_cap", f"{n} others of this question were drawn")
        return None if row.id in {r.id for r in first} else over

    same_as(cap_per_question(n, 7), rows, expected)
    right = marked(lambda row: row.payload["text"] == "x")
    for row, (_, payload, _) in zip(rows, outcomes(right, rows), strict=True):
        assert payload[SOLVED] == (sum(r.payload["text"] == "x" for r in of_question(row)) >= 3)


@CASES
@given(rows=rows_of_questions, at_once=st.integers(1, 50))
def test_rows_by_question(rows: list[Row], at_once: int) -> None:
    shares = max(1, -(-len(rows) // at_once))
    place = {r.id: int(unit_interval(r.payload["task_id"]) * shares) for r in rows}
    expected = sorted(rows, key=lambda r: (place[r.id], r.payload["task_id"], r.id))
    assert list(by_question(lambda: iter(rows), len(rows), at_once)) == expected
