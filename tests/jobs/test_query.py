"""query: SQL over a run: nothing but the run can be read, nothing is written, hostile text is harmless."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.jobs.conftest import HOSTILE, Built, assert_safe

pytest.importorskip("duckdb")


def answer(selfloop, built: Built, sql: str):
    found = selfloop("query", built.run.root, sql, "--json")
    assert found.status == 0, found.text
    assert_safe(found.text)
    return json.loads(found.out)


def test_counts_agree_with_inspect(built: Built, selfloop):
    counted = answer(
        selfloop, built, "select stage, reason, count(*) n from dropped group by all order by all"
    )
    assert counted == [
        {"stage": "filter", "reason": "empty_answer", "n": 1},
        {"stage": "verify", "reason": "minority", "n": 2},
        {"stage": "verify", "reason": "wrong_answer", "n": 1},
    ]
    assert answer(selfloop, built, "select reason, raw, round from failed") == [
        {"reason": "ValueError", "raw": "raw reply", "round": 1}
    ]
    stages = answer(selfloop, built, "select stage, state, dropped, out from stages where round = 1")
    assert {"stage": "verify", "state": "done", "dropped": 3, "out": 1} in stages
    [row] = answer(selfloop, built, "select verdict.correct, question from verify")
    assert row == {"correct": True, "question": "Question t1?"}


def test_rounds_under_way_and_joined_tables(built: Built, selfloop):
    assert answer(selfloop, built, "select round, count(*) n from generate group by all order by all") == [
        {"round": 1, "n": 6},
        {"round": 2, "n": 2},
    ]
    [asked] = answer(
        selfloop,
        built,
        "select r.completions[1].text t, g.text from requests r join generate g on r.row = g.parents[1] "
        "where g.sample = 0 and r.round = 1 and g.round = 1 and g.task_id like 't1%'",
    )
    assert asked["t"] == asked["text"] == "2 and 2 make 4.\nAnswer: 4"
    assert answer(selfloop, built, "select dataset, round, count(*) n from published group by all") == [
        {"dataset": "sft", "round": 1, "n": 2}
    ]
    assert answer(selfloop, built, "select set, count(*) n from tasks group by all") == [
        {"set": "train", "n": 3}
    ]
    assert answer(selfloop, built, "from rounds") == []


def test_json_has_no_numbers_that_json_lacks(built: Built, selfloop):
    [row] = answer(selfloop, built, "select 1/0 a, ['nan'::float, 1] b, {'x': '-inf'::float} c")
    assert row == {"a": None, "b": [None, 1.0], "c": {"x": None}}


def test_tables_are_listed(built: Built, selfloop):
    listed = json.loads(selfloop("query", built.run.root, "--json").out)
    columns = {t["table"]: t["columns"] for t in listed}
    assert {"rounds", "stages", "dropped", "failed", "requests", "published", "verify"} <= columns.keys()
    assert {"round", "stage", "reason", "raw", "text"} <= set(columns["dropped"])
    assert "dropped: the dropped rows" in selfloop("query", built.run.root).text


@pytest.mark.parametrize(
    "sql, why",
    [
        ("select * from droped", "Did you mean 'dropped'?"),
        ("select", "SQL: "),
        ("", "expected one SELECT statement, got none"),
        ("select 1; select 2", "expected one SELECT"),
        ("drop table dropped", "got DROP"),
        ("copy dropped to 'x.csv'", "got COPY"),
        ("attach 'x.db'", "got ATTACH"),
        ("set enable_external_access = true", "got SET"),
        ("select * from read_text('{}')", "disabled by config"),
        ("select * from read_csv('https://example.org/x.csv')", "disabled by config"),
        ("select * from '{}'", "SQL: "),
        ("select * from sys.path", "there is no table"),
    ],
)
def test_nothing_else_is_reached(built: Built, selfloop, tmp_path: Path, monkeypatch, sql: str, why: str):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    found = selfloop("query", built.run.root, sql.format(secret))
    assert found.status == 2 and why in found.text, found.text
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]


def test_hostile_text(built: Built, selfloop):
    sql = "select text, 'x' as \"\x1b[31m\" from generate where text like '%not bold%' limit 1"
    for arguments in ([], ["--full"], ["--format", "json"]):
        found = selfloop("query", built.run.root, sql, *arguments)
        assert found.status == 0 and "[bold]not bold[/bold]" in found.text
        assert_safe(found.text)
    exact = selfloop("query", built.run.root, sql, "--format", "csv").out
    assert list(csv.reader(io.StringIO(exact)))[1] == [HOSTILE, "x"]


def test_wide_results_are_shown_row_by_row(built: Built, selfloop):
    found = selfloop("query", built.run.root, "from generate", "--limit", "1")
    assert "finish_reason" in found.text and "1 of 8 rows; --limit 8 prints all" in found.text
    assert_safe(found.text)
