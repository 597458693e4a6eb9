"""best_of_n on the scripted engine: from samples to pairs, the report, and the mistakes a recipe can make."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.config import Recipe
from pipeline.engines.base import Completion, Request, Sampling
from pipeline.errors import ConfigError, EngineError
from pipeline.methods import load_method
from pipeline.rows import Dropped, Kept, Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM
from pipeline.stage import STAGES
from stages.rounds.loop import Loop
from stages.steps.verifiers import Verdict
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.stages.judges.asked import score, shown_texts
from tests.stages.methods.best_of_n.answers import SAID, silent, sure
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]

N = len(SAID)
SCRIPT = "tests.stages.methods.best_of_n.answers:sure"


def recipe(tasks: Path | str = "tasks.jsonl", method: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    chosen = {"name": "best_of_n", "samples": N, **(method or {})}
    source = {"source": "jsonl", "path": str(tasks)}
    engine = {"kind": "scripted", "answers": SCRIPT}
    return tiny_recipe(**{"method": chosen, "tasks": source, "engine": engine, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    """A run that has published its first round: 20 questions, examples and pairs."""
    folder = tmp_path_factory.mktemp("best_of_n")
    tasks = [{"question": f"What is {i} + {i % 7}?", "answer": i + i % 7} for i in range(100, 125)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    run = RunDir(folder / "run")
    settings = run.freeze(
        recipe(
            folder / "tasks.jsonl",
            rounds=1,
            model={"base": str(tiny_model)},
            held_out={"count": 5},
            train={"kind": "sft_then_dpo", "max_length": 256},
            preferences={"pairs": "best_worst", "pairs_per_question": 1},
        )
    )
    freeze(run, settings)
    loop = Loop(run, settings)

    async def stages() -> None:
        for name in STAGES:
            await loop.stage(1, name)
        await loop.publish(1)

    asyncio.run(stages())
    return run


def test_the_likeliest_answer_of_each_question_is_published(finished: RunDir) -> None:
    verify = finished.manifest(finished.stage(1, "verify"))
    verify.check()
    assert verify.rows_in == 20 * N and verify.rows_out == 20
    assert verify.dropped_in_all() == {"worst": 20, "not_best": 20 * (N - 2)}
    rows = load_from_disk(finished.dataset("sft", 1))["train"]
    verdicts = [json.loads(row["src_verdict"]) for row in rows]
    assert len(rows) == 20 and {v["by"] for v in verdicts} == {"loglikelihood"}
    likeliest = 3  # -0.1 a token
    assert all(row["completion"][0]["content"].startswith("so " * likeliest) for row in rows)
    assert all(v["score"] == pytest.approx(-0.1 * (N + likeliest)) for v in verdicts)


def test_pairs_are_the_best_against_the_worst(finished: RunDir) -> None:
    rows = load_from_disk(finished.dataset("dpo", 1))["train"]
    assert len(rows) == 20
    for row in rows:
        chosen, rejected = (json.loads(row[f"src_{side}_verdict"]) for side in ("chosen", "rejected"))
        assert chosen["score"] == pytest.approx(-0.1 * 9) and rejected["score"] == pytest.approx(-4.0 * 11)
        assert row["rejected"][0]["content"].startswith("so " * 5)
    pairs = finished.manifest(finished.stage(1, "pairs"))
    pairs.check()
    assert pairs.rows_in == 20 * N, "answers between the best and the worst could be paired, too"


def test_the_report_says_that_the_reward_prefers_wrong_answers(finished: RunDir) -> None:
    manifest = finished.manifest(finished.stage(1, "verify"))
    found = manifest.extra["agreement"]
    assert found["chosen_by"] == "loglikelihood" and found["known"] == 20
    assert found["mean"]["mean"] == 0.5 and found["best_possible"]["mean"] == 1
    assert found["rewards"]["loglikelihood"]["chosen"]["mean"] == 0
    assert found["rewards"]["vote"]["chosen"]["mean"] == 1, "the three right answers agree"
    assert "chose a right answer to 0.0%" in manifest.extra["note"]
    text = Path(finished.path("rewards.txt")).read_text()
    assert text.startswith("round 1: 120 answers to 20 questions (truth known for 20)")
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert {"loglikelihood", "loglikelihood_per_token", "vote", "longest", "random choice"} <= lines.keys()
    assert "100.0% [100.0%, 100.0%]" in lines["vote"] and "50.0%" in lines["random choice"]
    card = Path(finished.dataset("sft", 1), "README.md").read_text()
    assert "Verifier: best 1 of 6 by loglikelihood" in card and "a random choice would to 50.0%" in card


def ask(settings: Recipe, script: Any, **payload: Any) -> tuple[Any, list[Row], list[Sampling]]:
    """Answer one question without a runner; return the method, the answers and the sampling."""
    method, asked = load_method(settings), []

    async def send(request: Any) -> Any:
        asked.append(request.sampling)
        return [script(request, i) for i in range(request.n)]

    task = {"task_id": "t", "question": "What is 2 + 3?", "answer": "5", "answer_type": "number", **payload}
    llm = LLM(send, "t", "m@1", settings.sampling)
    outcome = asyncio.run(method.stages()["generate"].row(Row("t", task), llm))
    return method, outcome.rows, asked


def judged(settings: Recipe, **payload: Any) -> list[Kept | Dropped]:
    method, rows, _ = ask(settings, sure, **payload)
    verify = method.stages()["verify"].row
    llm = LLM(None, "t", "m@1", settings.sampling)  # type: ignore[arg-type]  # nothing is asked
    return [asyncio.run(verify(row, llm)) for row in rows]


def partly(payload: dict[str, Any]) -> Verdict:
    """A verifier with a score; it finds answers of two sos unreadable."""
    sos = payload["text"].count("so")
    if sos == 2:
        return Verdict(False, None, "two_sos", None)
    return Verdict(sos > 3, None, "", sos / 5)


def test_any_verifier_with_a_score_is_a_reward() -> None:
    settings = recipe(method={"reward": "verifier"}, verifier=f"{__name__}:partly")
    found = judged(settings)
    kept = [o.rows[0].payload for o in found if isinstance(o, Kept)]
    assert [p["rewards"]["verifier"] for p in kept] == [0, 0.2, 0.6, 0.8, 1.0]
    assert [p["truth"] for p in kept] == [True, True, False, True, False]
    assert [o.reason for o in found if isinstance(o, Dropped)] == ["two_sos"]
    by_truth = judged(recipe(method={"reward": "verifier"}))
    assert [o.rows[0].payload["rewards"]["verifier"] for o in by_truth] == [float(not s) for s in SAID]


def test_a_judges_score_is_a_reward_below_its_threshold_too() -> None:
    """The judge likes sos, but none enough to approve; a judgement that cannot be read is no reward."""

    def judge(request: Request) -> str:
        sos = shown_texts(request)[-1].count("so")
        return "no idea" if sos == 2 else score(1 + sos)

    settings = recipe(method={"reward": "verifier"}, verifier={"kind": "judge", "threshold": 10})
    method, rows, _ = ask(settings, sure, answer=None)
    stage = method.stages()["verify"]
    assert stage.seats and list(stage.steps) == ["best_and_worst"] and "judge/score" in stage.prompts

    async def send(request: Request) -> list[Completion]:
        return [Completion(judge(request), "stop", 9, 9)]

    llm = LLM(send, "t", "m@1", settings.sampling, prompts=method.prompts)
    found = [asyncio.run(stage.row(row, llm)) for row in rows]
    assert [o.reason for o in found if isinstance(o, Dropped)] == ["unreadable_judgement"]
    judged = [o.rows[0] for o in found if isinstance(o, Kept)]
    assert [round(9 * row.payload["rewards"]["verifier"]) for row in judged] == [0, 1, 3, 4, 5]
    [best] = [row for row, why in stage.steps["best_and_worst"](lambda: iter(judged)) if why is None]
    assert best.payload["text"].count("so") == 5 and best.payload["verdict"]["by"] == "verifier"
    assert best.payload["judgements"], "what the judge said is kept"
    assert "by the score of" in method.verified_by(1)


def test_tasks_without_answers_have_no_truth() -> None:
    found = judged(recipe(), answer=None)
    assert {o.rows[0].payload["truth"] for o in found} == {None}


def test_log_probabilities_are_asked_for_where_they_may_be_had() -> None:
    assert [s.logprobs for s in ask(recipe(), sure)[2]] == [0]
    assert [s.logprobs for s in ask(recipe(method={"reward": "vote"}), sure)[2]] == [0]
    assert [s.logprobs for s in ask(recipe(method={"reward": "vote", "logprobs": False}), sure)[2]] == [None]
    endpoint = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    assert [s.logprobs for s in ask(recipe(method={"reward": "vote"}, engine=endpoint), sure)[2]] == [None]
    assert [s.logprobs for s in ask(recipe(engine=endpoint), sure)[2]] == [0]
    with pytest.raises(EngineError, match="the engine returns no log-probabilities"):
        ask(recipe(), silent)


def test_questions_are_not_drawn_by_a_pass_rate_that_they_have_not() -> None:
    with pytest.raises(ConfigError, match="draw: best_of_n keeps the best answers to every question"):
        recipe(draw={"max_pass_rate": 0.9})


def test_unreadable_answers_do_not_vote() -> None:
    found = judged(recipe(method={"reward": "vote"}), answer_marks=["Result"])
    assert Counter(o.reason for o in found if isinstance(o, Dropped)) == {"no_marked_answer": N}
    assert all("loglikelihood" in o.adds["rewards"] for o in found), "the report counts them"


@pytest.mark.parametrize(
    ("method", "verifier", "said"),
    [
        ({"keep_per_question": 6}, "ground_truth", "6 of 6 samples leave nothing to choose"),
        ({"logprobs": False}, "ground_truth", "reward loglikelihood needs log-probabilities"),
        ({"reward": "verifier"}, "majority_vote", "for a vote set method.reward: vote"),
        ({"reward": "likelihood"}, "ground_truth", "reward"),
    ],
)
def test_mistakes_are_named(method: dict[str, Any], verifier: str, said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        load_method(recipe(method=method, verifier=verifier))
