"""Phase 2 and evaluation, row by row: whose verdict decides, and when an answer is refined."""

from typing import Any

import pytest

from pipeline.engines.base import Completion, Sampling
from pipeline.errors import DataError
from pipeline.rows import Kept, Row
from stages.steps import verifiers
from tests.stages.methods.self.scripted import (
    ENDPOINT,
    NO,
    TASK,
    TRUTH,
    YES,
    Model,
    last,
    made,
    method,
    through,
    why,
)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (NO, YES, None),
        (YES, YES, None),
        (YES, NO, "not_approved"),
        (NO, NO, "not_approved"),
        (YES, "Fine.", "unparsable_verdict"),
    ],
)
async def test_trap_3_the_verdict_on_the_refined_answer_decides(
    first: str, second: str, reason: str | None
) -> None:
    model = Model(solve="Answer: 12", feedback=[first, second], refine="Answer: 13")
    outcomes = await through(method(), model, 2)
    assert model.steps == ["direct/solve", "self/feedback", "self/refine", "self/feedback"]
    said = [
        [m["content"] for m in request.messages or [] if m["role"] == "assistant"] for request in model.asked
    ]
    assert said == [[], ["Answer: 12"], ["Answer: 12", first], ["Answer: 13"]]
    if reason:
        assert why(outcomes) == ("verify", reason)
        return
    row = last(outcomes)
    assert [row.payload[k] for k in ("initial", "feedback", "text", "check", "approved")] == [
        "Answer: 12",
        first,
        "Answer: 13",
        second,
        True,
    ]
    assert TRUTH not in row.payload["text"], "it is wrong by the truth, which decides nothing here"


async def test_equal_answers_are_judged_twice_in_any_run_alike() -> None:
    """The refined answer is the first one again: the second look at it is a sample of its own."""
    model = Model(solve="Answer: 12", feedback=[YES, NO], refine="Answer: 12")
    await through(method(), model, 2)
    before, after = (r for r in model.asked if r.step == "self/feedback")
    assert before.messages == after.messages and (before.sample_index, after.sample_index) == (0, 1)


async def test_phase_2_needs_no_truth_and_a_readable_answer() -> None:
    own = Row(
        "q",
        {
            "task_id": "q",
            "question": "How many?",
            "answer": None,
            "answer_type": "number",
            "proposed_by": "m",
        },
    )
    said = {"solve": "Answer: 12", "feedback": [NO, YES]}
    assert (
        last(await through(method(), Model(**said, refine="Answer: 13"), 3, own)).payload["text"]
        == "Answer: 13"
    )
    assert why(await through(method(), Model(**{**said, "feedback": [NO, YES]}, refine="Some."), 3, own)) == (
        "verify",
        "no_marked_answer",
    )
    with pytest.raises(DataError, match="no ground truth to show"):
        await through(method(), Model(**said), 1, own)


def any_text(payload: dict[str, Any]) -> verifiers.Verdict:
    """A verifier of the user's own, for texts without a marked answer; there is one that it cannot take."""
    if "odd" in payload["text"]:
        raise RuntimeError("odd")
    return verifiers.Verdict("poem" in payload["text"], None, "", None)


async def test_open_tasks_need_no_marked_answer_where_the_verifier_is_the_users_own() -> None:
    self_ = method(
        recipe={"verifier": "tests.stages.methods.self.test_phase_2:any_text"},
        verdict_words=["acceptable", "needs work"],
    )
    model = Model(
        solve="A verse.",
        feedback=["Longer.\nVerdict: needs work", "Good.\nVerdict: acceptable"],
        refine="A longer poem.",
    )
    row = last(await through(self_, model, 3))
    assert row.payload["text"] == "A longer poem." and row.payload["verdict"]["correct"]
    assert self_._is_right(row, "A poem.") is True and self_._is_right(row, "An odd text.") is None, (
        "it measures only, so it stops nothing"
    )


async def test_where_tasks_have_no_answers_nothing_has_to_be_marked() -> None:
    tasks = {"source": "jsonl", "path": "t", "columns": {"answer": None}, "answer_type": "text"}
    self_ = method(annotator=ENDPOINT, recipe={"tasks": tasks}, verdict_words=["acceptable", "needs work"])
    no, yes = "Longer.\nVerdict: needs work", "Good.\nVerdict: acceptable"
    known = {"task_id": "q", "question": "Write a poem.", "answer": None, "answer_type": "text"}
    for payload in (known, {**known, "proposed_by": "m@1"}):
        open_ = Row("q", payload)
        said = {"solve": "A verse.", "annotate_feedback": no, "annotate_refine": "A longer poem."}
        row = last(await through(self_, Model(**said), 1, open_))
        assert row.payload["text"] == "A longer poem." and row.payload["verdict"]["extracted"] is None
        model = Model(solve="A verse.", feedback=[no, yes], refine="A longer poem.")
        assert last(await through(self_, model, 2, open_)).payload["approved"] is True


async def test_several_answers_each_have_a_criticism_of_their_own() -> None:
    self_ = method(samples=3)
    outcome = await self_.generate(TASK, Model(solve="Answer: 1").llm(TASK, 2))
    assert isinstance(outcome, Kept) and len({row.id for row in outcome.rows}) == 3
    again = await self_.generate(TASK, Model(solve="Answer: 1").llm(TASK, 3))
    assert not {row.id for row in outcome.rows} & {row.id for row in again.rows}, "another round, other rows"


async def test_precision_leaves_out_the_models_own_questions_whatever_the_verifier() -> None:
    self_, row = method(), await made(2)
    assert self_._is_right(row, f"Answer: {TRUTH}") is True and self_._is_right(row, "Answer: 0") is False
    assert self_._is_right(Row("p", {**row.payload, "proposed_by": "m@1"}), "Answer: 0") is None


@pytest.mark.parametrize(
    ("feedback", "text", "steps"), [(NO, "Answer: 13", 2), (YES, "Answer: 12", 1), ("Hm.", "Answer: 12", 1)]
)
async def test_an_answer_is_refined_only_when_the_model_itself_says_it_is_wrong(
    feedback: str, text: str, steps: int
) -> None:
    model = Model(feedback=feedback, refine="Answer: 13")
    self_ = method(sampling={"feedback": {"max_tokens": 33, "temperature": 0.1}})
    sampling = Sampling(temperature=0, max_tokens=7)
    improved = await self_.improve(TASK, Completion("Answer: 12", "stop", 1, 1), model.llm(TASK, 2), sampling)
    assert improved.text == text and len(model.asked) == steps
    assert [(r.sampling.temperature, r.sampling.max_tokens) for r in model.asked] == [(0, 33), (0, 7)][:steps]


async def test_nothing_is_made_of_an_empty_answer() -> None:
    model = Model()
    blank = Completion(" ", "stop", 1, 1)
    assert await method().improve(TASK, blank, model.llm(TASK, 2), Sampling()) is blank and not model.asked


def test_direct_evaluation_alone_asks_nothing_more() -> None:
    assert method(refine_in_evaluation=False).refinement() is None and method().refinement() is not None
