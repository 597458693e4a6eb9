"""Verifiers: verdicts by truth, by scorer and by vote, and what the verify stage makes of them."""

import asyncio
import random

import cloudpickle
import pytest
import reasoning_gym
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.config import Recipe
from pipeline.engines.base import Completion
from pipeline.errors import ConfigError, DataError
from pipeline.rows import Dropped, Kept, Row
from stages.answers import mark
from stages.rounds import evaluation
from stages.steps import verifiers
from stages.steps.samples import demonstration
from stages.steps.verifiers import (
    Verdict,
    ground_truth,
    judge_loosely,
    majority_vote,
    scorer,
    task_scorer,
)
from stages.tasks.entries import pack

registry.register("verifier", "majority_vote", "stages.steps.verifiers:ground_truth")


def payload(text: str, answer: str | None = "5", answer_type: str = "number", **more) -> dict:
    return {
        "task_id": "t",
        "question": "2 + 3 =",
        "text": text,
        "answer": answer,
        "answer_type": answer_type,
        "options": None,
        **more,
    }


def recipe(verifier: str) -> Recipe:
    return Recipe(name="r", tasks={"source": "jsonl", "path": "x"}, verifier=verifier)


def verify(verifier: str, row: Row):
    return asyncio.run(verifiers.stage(recipe(verifier)).row(row, None))


def gym_payload(dataset: str, text: str, **more) -> dict:
    entry = pack(reasoning_gym.create_dataset(dataset, size=1, seed=7)[0])
    return payload(
        text, source={"source": "reasoning_gym", "dataset": dataset, "options": {}}, entry=entry, **more
    )


def test_ground_truth_compares_by_value():
    assert ground_truth(payload("so\nAnswer: 5.0")) == Verdict(True, "5.0", "", None)
    assert ground_truth(payload("so\nAnswer: 6")) == Verdict(False, "6", "", None)
    assert ground_truth(payload("so 5")) == Verdict(False, None, "no_marked_answer", None)


def test_without_ground_truth_the_person_is_told_what_to_do():
    with pytest.raises(DataError, match="majority_vote"):
        ground_truth(payload("Answer: 5", answer=None))


@pytest.mark.parametrize("dataset", ["chain_sum", "countdown", "letter_counting", "spell_backward"])
def test_task_scorer_asks_the_data_set(dataset):
    right = gym_payload(dataset, "")
    answer = right["entry"]["answer"]
    assert task_scorer({**right, "text": f"We see.\nAnswer: {answer}."}) == Verdict(True, answer, "", 1.0)
    wrong = task_scorer({**right, "text": "Answer: -7777777"})
    assert not wrong.correct and wrong.score < 1
    assert task_scorer({**right, "text": answer}).problem == "no_marked_answer"


@pytest.mark.parametrize(
    "dataset",
    [
        "arc_agi", "binary_matrix", "futoshiki", "game_of_life", "kakurasu", "manipulate_matrix",
        "mini_sudoku", "modulo_grid", "n_queens", "pool_matrix", "rearc", "rotate_matrix", "sudoku", "survo",
        "tower_of_hanoi",
    ],
)  # fmt: skip
def test_answers_of_several_lines_score_as_their_data_set_says(dataset):
    task = gym_payload(dataset, "")
    truth = task["entry"]["answer"]
    task["answer"] = truth
    for text in (f"We see.\n\n{mark(truth)}", f"**Answer:**\n```\n{truth}\n```", f"\\boxed{{{truth}}}"):
        assert task_scorer({**task, "text": text}).score == 1.0
    assert demonstration({**task, "solution": "We see."}) == f"We see.\n{mark(truth)}"


def test_a_scorer_that_never_ends_is_stopped_and_the_next_answer_is_scored():
    assert task_scorer(gym_payload("countdown", "Answer: 9**9**9**9")).problem == "scorer_out_of_time"
    task = gym_payload("countdown", "")
    assert task_scorer({**task, "text": f"Answer: {task['entry']['answer']}"}).correct


def test_a_scorer_that_fails_gives_a_named_problem():
    broken = gym_payload("chain_sum", "Answer: 5")
    del broken["entry"]["answer"]
    assert task_scorer(broken) == Verdict(False, "5", "scorer_error", None)


def test_a_task_without_scorer_and_an_unknown_data_set_are_data_errors():
    with pytest.raises(DataError, match="ground_truth"):
        task_scorer(payload("Answer: 5", source={"source": "jsonl"}, entry=None))
    unknown = gym_payload("chain_sum", "Answer: 5")
    unknown["source"]["dataset"] = "chain_sums"
    with pytest.raises(DataError, match="chain_sums"):
        task_scorer(unknown)


def test_scorers_are_found_by_name():
    assert scorer("ground_truth") is ground_truth
    assert scorer("task_scorer") is task_scorer
    assert scorer("majority_vote") is ground_truth
    assert scorer("tests.stages.steps.test_verifiers:own")({"text": "good"}) == own({"text": "good"})
    with pytest.raises(ConfigError, match="ground_truth"):
        scorer("ground_trut")


def own(payload: dict) -> Verdict:
    return Verdict("good" in payload["text"], "good", "", 0.5)


def bad(payload: dict) -> bool:
    return True


def test_verify_keeps_what_is_right_with_its_verdict():
    row = Row("a", payload("Answer: 5"))
    kept = verify("ground_truth", row)
    assert kept == Kept(
        [row.child("verify", 0, verdict={"correct": True, "extracted": "5", "problem": "", "score": None})]
    )


def test_fault_17_what_is_dropped_has_a_reason_and_keeps_its_text():
    assert verify("ground_truth", Row("a", payload("Answer: 6"))) == Dropped(
        "wrong_answer", "extracted '6', expected '5'", "Answer: 6"
    )
    assert verify("ground_truth", Row("a", payload(r"\boxed{12 of 40}"))).reason == "several_candidates"


def test_own_verifiers_return_verdicts():
    assert isinstance(verify("tests.stages.steps.test_verifiers:own", Row("a", payload("good"))), Kept)
    assert verify("tests.stages.steps.test_verifiers:own", Row("a", payload("bad"))).reason == "wrong_answer"


@pytest.mark.parametrize("returned", [True, None, "yes", (True, "5", "", None), Verdict("no", "5", "", None)])
def test_a_verifier_that_returns_something_else_is_named_wherever_it_judges(returned, monkeypatch):
    name = "tests.stages.steps.test_verifiers:bad"
    monkeypatch.setattr("tests.stages.steps.test_verifiers.bad", lambda payload: returned)
    with pytest.raises(ConfigError, match=f"verifier {name} returned .*expected a .*Verdict"):
        verify(name, Row("a", payload("x")))
    with pytest.raises(ConfigError, match=f"verifier {name} returned"):
        evaluation._judge(name, payload("x"), Completion("x", "stop", 1, 1))


@pytest.mark.parametrize("name", ["ground_truth", "task_scorer", "majority_vote"])
def test_stages_travel_to_ray_workers(name):
    assert cloudpickle.loads(cloudpickle.dumps(verifiers.stage(recipe(name)))).config["verifier"] == name


def test_what_cannot_be_compared_is_dropped_as_such():
    assert verify("ground_truth", Row("a", payload("Answer: 70%", "70"))).reason == "not_comparable"
    assert verify("ground_truth", Row("a", payload("Answer: 71", "70"))).reason == "wrong_answer"
    assert verify("ground_truth", Row("a", payload("Answer: 3 or 5", "5"))).reason == "several_candidates"


def test_words_of_the_mark_come_with_the_task():
    task = payload("答案: 5", answer_marks=["答案"])
    assert ground_truth(task).correct
    assert ground_truth({**task, "text": "Answer: 5"}).problem == "no_marked_answer"
    assert demonstration({**task, "solution": "2 + 3"}) == "2 + 3\n答案: 5"


@pytest.mark.parametrize(
    ("text", "loosely"), [("Answer: 5", True), ("It is 5.", True), ("It is 6.", False), ("Hm", False)]
)
def test_a_loose_judge_reads_what_is_not_marked(text, loosely):
    task = payload(text)
    assert judge_loosely("ground_truth", task, ground_truth(task)) is loosely
    assert judge_loosely("tests.stages.steps.test_verifiers:own", task, own(task)) is None


def test_a_loose_judge_asks_a_task_s_own_scorer():
    task = gym_payload("chain_sum", "")
    truth = task["entry"]["answer"]
    task |= {"answer": truth, "text": f"This makes {truth}."}
    assert not task_scorer(task).correct and judge_loosely("task_scorer", task, task_scorer(task))
    assert not judge_loosely("task_scorer", {**task, "text": "This makes 0.5"}, task_scorer(task))


# ---- majority vote ----


def voted(answers: dict[str, list[str]], truth: str | None = None) -> list[Row]:
    """Run the row part over texts by question, and return the rows that can vote."""
    rows = []
    for task, texts in answers.items():
        for i, text in enumerate(texts):
            outcome = verify("majority_vote", Row(f"{task}{i}", payload(text, truth, task_id=task)))
            rows += outcome.rows if isinstance(outcome, Kept) else []
    return rows


def reasons(rows: list[Row]) -> dict[str, str]:
    return {
        row.parents[0]: verdict.reason if verdict else "kept"
        for row, verdict in majority_vote(lambda: iter(rows))
    }


def test_the_modal_answer_wins_by_value():
    rows = voted({"q": ["Answer: 0.5", "Answer: 1/2", r"\boxed{\frac12}", "Answer: 3", "no mark"]})
    assert reasons(rows) == {"q0": "kept", "q1": "kept", "q2": "kept", "q3": "minority"}
    row, _ = next(majority_vote(lambda: iter(rows)))
    assert row.payload["verdict"] == {"correct": True, "extracted": "0.5", "problem": "", "score": 0.75}
    assert row.id == rows[0].id


def test_a_vote_that_may_say_the_same_is_not_known_to_be_wrong():
    rows = voted({"q": ["Answer: 70", "Answer: 70", "Answer: 70%", "Answer: 71"]})
    assert reasons(rows) == {"q0": "kept", "q1": "kept", "q2": "not_comparable", "q3": "minority"}


def test_ties_and_single_votes_drop_the_question():
    rows = voted(
        {
            "tie": ["Answer: 1", "Answer: 1", "Answer: 2", "Answer: 2", "Answer: 3"],
            "few": ["Answer: 1", "Answer: 2"],
            "one": ["Answer: 1"],
        }
    )
    assert set(reasons(rows).values()) == {"tie", "too_few_votes"}
    assert [v for k, v in reasons(rows).items() if k.startswith("tie")] == ["tie"] * 5


def test_an_answer_that_cannot_be_read_has_no_vote():
    assert verify("majority_vote", Row("a", payload("so 5"))) == Dropped("no_marked_answer", "", "so 5")


def test_the_vote_never_looks_at_the_ground_truth():
    texts = {"q": ["Answer: 1", "Answer: 1", "Answer: 2"]}
    assert (
        reasons(voted(texts, "2"))
        == reasons(voted(texts, None))
        == {"q0": "kept", "q1": "kept", "q2": "minority"}
    )


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from("123")), max_size=30), st.randoms())
def test_conservation_and_independence_of_order(drawn: list[tuple[str, str]], rng: random.Random):
    rows = [
        Row(str(i), {"task_id": q, "text": a, "vote": {"key": a, "extracted": a}})
        for i, (q, a) in enumerate(drawn)
    ]
    shuffled = rng.sample(rows, len(rows))
    first = {row.id: verdict for row, verdict in majority_vote(lambda: iter(rows))}
    assert list(first) == [row.id for row in rows]
    assert first == {row.id: verdict for row, verdict in majority_vote(lambda: iter(shuffled))}
