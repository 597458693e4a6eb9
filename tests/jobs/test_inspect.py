"""inspect: numbers add up in every form, hostile text is harmless, runs may be missing or under way."""

import json
from pathlib import Path

import pytest

from pipeline.printable import cut, json_text, one_line, printable
from tests.jobs.conftest import HOSTILE, Built, assert_safe


def facts_of(selfloop, *arguments):
    found = selfloop("inspect", *arguments, "--json")
    assert found.status == 0, found.text
    assert_safe(found.text)
    return json.loads(found.text)


def test_overview_numbers_add_up(built: Built, selfloop):
    facts = facts_of(selfloop, "--run", built.run.root)
    assert (facts["name"], facts["method"], facts["engine"]) == ("small", "direct", "scripted")
    assert facts["tasks"] == {"train": 3, "held_out": 0, "demonstrations": 0}
    rounds = {r["round"]: r for r in facts["rounds"]}
    assert list(rounds) == [1, 2]
    for r in rounds.values():
        for stage in r["stages"].values():
            assert stage["in"] == stage["done"] + sum(stage["dropped"].values()) + sum(
                stage["failed"].values()
            )
            for step in stage["steps"]:
                assert step["rows_in"] == step["rows_out"] + sum(step["dropped"].values())
    first = rounds[1]["stages"]
    assert [first[s]["state"] for s in first] == ["done"] * 5 + ["not begun"]
    assert [
        (first[s]["in"], first[s]["out"]) for s in ("generate", "critique", "filter", "verify", "publish")
    ] == [(3, 6), (6, 6), (6, 5), (5, 1), (1, 1)]
    assert first["critique"]["passes_through"] == "generate"
    assert (
        first["generate"]["prompt_tokens"],
        first["generate"]["completion_tokens"],
        first["generate"]["requests_sent"],
    ) == (15, 30, 3)
    assert rounds[1]["train"] == {"state": "not begun", "result": None, "progress": None}
    [dataset] = rounds[1]["datasets"]
    assert (dataset["kind"], dataset["rows"], dataset["path"]) == ("sft", 2, built.run.dataset("sft", 1))


def test_overview_shows_a_running_stage(built: Built, selfloop):
    facts = facts_of(selfloop, "--run", built.run.root, "--round", "2")
    [r] = facts["rounds"]
    generate = r["stages"]["generate"]
    assert (generate["state"], generate["in"], generate["expected"], generate["out"]) == (
        "under way",
        1,
        3,
        2,
    )
    shown = selfloop("inspect", "--run", built.run.root)
    assert shown.status == 0
    assert "under way" in shown.text and "1 of 3" in shown.text
    assert built.run.dataset("sft", 1) in shown.text


def test_stage_counts_reasons_and_examples(built: Built, selfloop):
    facts = facts_of(selfloop, "--run", built.run.root, "--stage", "verify")
    assert facts["round"] == 1
    assert facts["dropped"] == {"wrong_answer": 1} and facts["dropped_in_all"] == {
        "wrong_answer": 1,
        "minority": 2,
    }
    assert {k: len(v) for k, v in facts["dropped_examples"].items()} == {"wrong_answer": 1, "minority": 2}
    assert [r["id"] for r in facts["rows"]] == [built.child("t1", 0, "filter", "verify")]
    shown = selfloop("inspect", "--run", built.run.root, "--stage", "verify").text
    assert "5 in = 3 done + 1 dropped + 1 failed; 1 rows out" in shown
    assert "step majority_vote: 3 in = 1 out + 2 dropped" in shown
    assert "failed as ValueError" in shown and "raw reply" in shown
    assert "2 and 2 make 4." in shown and "right, extracted '4'" in shown


def test_dropped_examples_differ_where_they_can(built: Built, selfloop):
    facts = facts_of(selfloop, "--run", built.run.root, "--stage", "verify", "--dropped", "-n", "1")
    assert {k: len(v) for k, v in facts["dropped_examples"].items()} == {"wrong_answer": 1, "minority": 1}
    assert facts["rows"] == [] and facts["failed_examples"] == {}
    only_failed = facts_of(selfloop, "--run", built.run.root, "--stage", "verify", "--failed")
    assert only_failed["dropped_examples"] == {} and list(only_failed["failed_examples"]) == ["ValueError"]


@pytest.mark.parametrize(
    "options",
    [
        ["--stage", "generate"],
        ["--stage", "verify", "--dropped"],
        ["--stage", "verify", "--dropped", "--full"],
    ],
)
def test_hostile_text_is_shown_as_it_is_and_harmless(built: Built, selfloop, options):
    shown = selfloop("inspect", "--run", built.run.root, "--round", "1", *options)
    assert shown.status == 0, shown.text
    assert_safe(shown.text)
    assert (
        "\\x1b[31mred" in shown.text
        and "[bold]not bold[/bold]" in shown.text
        and ":smile:" in shown.text
        and "\\u202e" in shown.text
    )
    assert ("more characters)" in shown.text) == ("--full" not in options)


@pytest.mark.parametrize("stage", ["critique", "filter", "publish", "tasks"])
def test_every_stage_can_be_looked_at(built: Built, selfloop, stage):
    assert selfloop("inspect", "--run", built.run.root, "--stage", stage, "--round", "1").status == 0
    facts = facts_of(selfloop, "--run", built.run.root, "--stage", stage, "--round", "1")
    assert facts["state"] == "done" and facts["rows"]


def test_rejected_tasks(built: Built, selfloop):
    facts = facts_of(selfloop, "--run", built.run.root, "--stage", "tasks", "--failed")
    assert facts["failed_examples"]["bad_row"][0]["raw"] == '{"x": 1}'
    assert facts["sets"] == {"train": 3, "demonstrations": 0, "held_out": 0}


def test_training(built: Built, selfloop, tmp_path: Path):
    missing = selfloop("inspect", "--run", built.run.root, "--stage", "train")
    assert missing.status == 2 and "no round has begun its train stage" in missing.text
    facts = facts_of(selfloop, "--run", built.run.root, "--stage", "train", "--round", "1")
    assert facts["state"] == "not begun"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--stage", "verfy"], "did you mean 'verify'"),
        (["--stage", "generate", "--round", "7"], "it has no round 7. Rounds here: 1, 2."),
        (["--round", "7"], "it has no round 7"),
        (["--round", "x"], "expected a number, or base"),
        (["--dropped"], "--stage"),
    ],
)
def test_mistakes_are_answered(built: Built, selfloop, arguments, says):
    found = selfloop("inspect", "--run", built.run.root, *arguments)
    assert found.status == 2 and says in found.text and "Traceback" not in found.text


def test_no_run(selfloop, tmp_path: Path):
    assert "no such folder" in selfloop("inspect", "--run", tmp_path / "nowhere").text
    empty = selfloop("inspect", "--run", tmp_path)
    assert empty.status == 2 and "run.yaml is missing" in empty.text
    (tmp_path / "run.yaml").write_text("- not a recipe")
    assert "expected a mapping of settings" in selfloop("inspect", "--run", tmp_path).text


def test_fresh_run(selfloop, tmp_path: Path, make_recipe):
    from pipeline.rundir import RunDir

    RunDir(tmp_path).freeze(make_recipe())
    shown = selfloop("inspect", "--run", tmp_path)
    assert (
        shown.status == 0
        and "tasks: not read yet" in shown.text
        and "not begun: rounds base, 1, 2" in shown.text
    )
    assert "not begun" in selfloop("inspect", "--run", tmp_path, "--stage", "filter", "--round", "1").text
    assert "tasks are not read yet" in selfloop("inspect", "--run", tmp_path, "--stage", "tasks").text


def test_inspecting_changes_nothing(built: Built, selfloop):
    before = {p: p.stat().st_mtime_ns for p in Path(built.run.root).rglob("*")}
    selfloop("inspect", "--run", built.run.root, "--stage", "verify")
    selfloop("trace", "--run", built.run.root, built.tasks[0].id)
    assert {p: p.stat().st_mtime_ns for p in Path(built.run.root).rglob("*")} == before


def test_printable():
    assert printable("a\x1b[2Jb\r\nc\rd\x9b\u202e\ud800\tä") == "a\\x1b[2Jb\nc\\x0dd\\x9b\\u202e\\ud800\tä"
    assert one_line("a\n\x1bb " * 100, 20).startswith("a \\x1bb a") and len(one_line(HOSTILE, 50)) == 50
    assert cut("abc\ndef", 100, 1) == "abc ... (4 more characters)"
    assert cut("abc\r\ndef", 100, 9) == "abc\ndef"
    assert json.loads(json_text({"x": HOSTILE})) == {"x": HOSTILE}
    assert_safe(json_text(HOSTILE))
