"""Questions without answers, from the first request to the trained model.

A judge decides, and is measured.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.machine import Machine
from pipeline.config import Recipe
from pipeline.rundir import RunDir
from pipeline.store import request_log
from stages.reports.table import rounds_table
from stages.rounds.plan import plan
from tests.conftest import tiny_recipe
from tests.jobs.conftest import selfloop
from tests.stages.judges.asked import recipe_with
from tests.stages.rounds.test_loop import iterate
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]
HERE = Machine(2, False, 16 * 2**30)
pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]


def open_recipe(folder: Path, **changes: Any) -> Recipe:
    questions = [{"question": f"Explain the number {i}."} for i in range(30)]
    (folder / "open.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    settings: dict[str, Any] = {
        "rounds": 1,
        "engine": {"kind": "scripted", "answers": "tests.stages.judges.scripted:speaks", "tokens": 0},
        "tasks": {
            "source": "jsonl",
            "path": str(folder / "open.jsonl"),
            "columns": {"answer": None},
            "answer_type": "text",
        },
        "held_out": {"count": 8},
        "method": {"name": "direct", "samples": 3},
        "verifier": {
            "all": ["tests.stages.judges.test_judged_loop:is_long_enough", {"kind": "judge", "threshold": 6}]
        },
        "evaluate": {"samples": 2, "k": [1], "bootstrap": 100},
    }
    return tiny_recipe(**{**settings, **changes})


def is_long_enough(payload: dict[str, Any]) -> Any:
    from stages.steps.verifiers import Verdict

    return Verdict(len(payload["text"].split()) > 5, None, "", None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    """A run of one round: examples, then pairs."""
    folder = tmp_path_factory.mktemp("open")
    train = {"kind": "sft_then_dpo", "max_steps": 1, "batch_size": 2, "max_length": 256, "cpus_per_worker": 1}
    train["dpo"] = {"max_steps": 1, "batch_size": 2}
    run = RunDir(folder / "run")
    iterate(run, open_recipe(folder, model={"base": str(tiny_model)}, train=train))
    return run


def logged(run: RunDir, round_: int | str, stage: str) -> list[dict[str, Any]]:
    return list(request_log.records(f"{run.stage(round_, stage)}/requests"))


def test_the_judge_s_requests_are_logged_under_its_model(finished: RunDir, tiny_model: Path) -> None:
    verify = finished.manifest(finished.stage(1, "verify"))
    records = logged(finished, 1, "verify")
    assert {r["step"] for r in records} == {"judge/score"} and len(records) == verify.requests.sent
    assert {r["model"].split("@")[0] for r in records} == {tiny_model.name} == {verify.model.split("@")[0]}
    refused = verify.dropped_in_all()["wrong_answer"]
    assert len(records) == verify.rows_in - refused and refused > 0
    assert verify.rows_in == verify.rows_out + sum(verify.dropped_in_all().values()) == 3 * 22


def test_it_is_measured_in_the_manifest_in_inspect_and_on_the_card(finished: RunDir, selfloop: Any) -> None:
    facts = finished.manifest(finished.stage(1, "verify")).extra
    judge = facts["verifiers"]["2.judge"]
    assert judge["unreadable"] > 0 and judge["length"]["mean"] > 0.8
    assert any("prefers long answers" in w for w in facts["warnings"])
    shown = selfloop("inspect", "--run", finished.root, "--round", "1", "--stage", "verify").text
    assert "rank correlation of score and length" in shown and "unreadable_judgement" in shown
    card = Path(finished.dataset("sft", 1), "README.md").read_text()
    assert facts["note"] in card
    assert (
        "Verifier: tests.stages.judges.test_judged_loop:is_long_enough and judge (the untrained model)"
        in card
    )


def test_low_scores_are_the_rejected_sides_of_pairs(finished: RunDir) -> None:
    pairs = list(finished.rows(finished.stage(1, "pairs")))
    assert pairs
    reasons = {r["id"]: r["reason"] for r in finished.rejects(finished.stage(1, "verify"), "dropped")}
    assert {reasons[row.parents[1]] for row in pairs} <= {"low_score", "wrong_answer"}
    scores = [row.payload["rejected_verdict"].get("score") for row in pairs]
    assert any(isinstance(score, float) for score in scores)


def test_open_questions_are_evaluated_by_the_judge(
    finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    for round_ in ("base", 1):
        evaluation = json.loads(Path(finished.evaluation(round_)).read_text())
        assert evaluation["n"] == 8 and 0 < evaluation["greedy"]["mean"] < 1 and "pass@1" in evaluation
        assert 0 < evaluation["measures"]["judge's score"]["mean"] < 1
        answers, judged = (finished.manifest(finished.stage(round_, s)) for s in ("answer", "evaluate"))
        assert answers.rows_out == judged.rows_in == judged.rows_out == 8 and 8 < judged.requests.sent <= 24
    rounds_table(finished)
    assert "approved by the judge" in " ".join(capsys.readouterr().out.split())


def test_the_same_command_asks_nothing_again(finished: RunDir) -> None:
    stages = [(1, "verify"), (1, "evaluate"), ("base", "evaluate"), (1, "answer")]
    before = [Counter(r["key"] for r in logged(finished, *stage)) for stage in stages]
    iterate(finished, finished.recipe())
    assert [Counter(r["key"] for r in logged(finished, *stage)) for stage in stages] == before
    assert all(set(keys.values()) == {1} for keys in before)


def test_what_it_asks_was_planned(finished: RunDir, tmp_path: Path) -> None:
    """Before the run, with the same recipe: the judge's requests are among those that are counted."""
    lines = {(line.round, line.stage): line for line in plan(finished.recipe(), RunDir(tmp_path), HERE).lines}
    for round_, stage in (
        (1, "generate"),
        (1, "verify"),
        ("base", "answer"),
        ("base", "evaluate"),
        (1, "evaluate"),
    ):
        line, requests = lines[round_, stage], finished.manifest(finished.stage(round_, stage)).requests.sent
        assert line.known and line.requests.low <= requests <= line.requests.high, line
    pairwise = finished.recipe().model_copy(
        update={"verifier": recipe_with({"kind": "pairwise_judge"}).verifier}
    )
    pairwise.evaluate.verifier = recipe_with("judge").verifier
    [verify] = [p for p in plan(pairwise, RunDir(tmp_path), HERE).lines if p.stage == "verify"]
    assert verify.requests.high == 66 * 2, "three answers a question: three pairs, in both orders"


def test_trace_shows_what_the_judge_was_asked(finished: RunDir, selfloop: Any) -> None:
    row = next(finished.rows(finished.stage(1, "publish")))
    text = selfloop("trace", "--run", finished.root, row.id).text
    assert "judge/score" in text and "You judge an answer" in text
