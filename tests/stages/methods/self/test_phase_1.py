"""Phase 1, row by row: what the annotator is shown, what is kept of its texts, and what it does not see."""

import json

import pytest

from pipeline.engines.base import Completion, Sampling
from pipeline.prompts import SHIPPED
from pipeline.protocols import UNTRAINED
from pipeline.rows import Row
from stages import answers
from stages.methods.self.texts import is_bare
from stages.methods.self.verdicts import read_verdict
from tests.stages.methods.self.scripted import (
    ENDPOINT,
    NO,
    TASK,
    TRUTH,
    WORDS,
    YES,
    Model,
    last,
    method,
    through,
    why,
)


async def test_phase_1_shows_the_truth_to_the_feedback_alone_and_says_so() -> None:
    model = Model(solve="Answer: 12", hinted_feedback=NO, annotate_refine=f"I see.\nAnswer: {TRUTH}")
    row = last(await through(method(), model, 1))
    assert model.steps == ["direct/solve", "self/hinted_feedback", "self/annotate_refine"]
    assert (row.payload["initial"], row.payload["feedback"], row.payload["text"]) == (
        "Answer: 12",
        NO,
        f"I see.\nAnswer: {TRUTH}",
    )
    assert (
        row.payload["annotator"] == "self_with_truth"
        and row.payload["hinted"]
        and row.payload["initial_verdict"] is False
    )
    assert row.payload["verdict"] == {
        "correct": True,
        "extracted": TRUTH,
        "problem": "",
        "score": None,
        "by": "annotator",
    }
    told = [TRUTH in " ".join(m["content"] for m in request.messages or []) for request in model.asked]
    assert told == [False, True, False]
    assert "deviation from the paper" in method().notes([row])[0]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"solve": "Answer: 12", "hinted_feedback": YES}, ("verify", "wrong_verdict")),
        ({"solve": f"Answer: {TRUTH}", "hinted_feedback": NO}, ("verify", "wrong_verdict")),
        ({"solve": "Answer: 12", "annotate_refine": "It is 6 + 7.\nAnswer: 13"}, ("verify", "wrong_answer")),
        ({"annotate_refine": f"Answer: {TRUTH}"}, ("filter", "bare_answer")),
        ({"annotate_refine": f"So the final answer is $\\boxed{{{TRUTH}}}$."}, ("filter", "bare_answer")),
        (
            {"annotate_refine": f"As the feedback says, we count.\nAnswer: {TRUTH}"},
            ("filter", "mentions_feedback"),
        ),
        (
            {"hinted_feedback": f"The right answer is {TRUTH}, not 12.\nVerdict: incorrect"},
            ("critique", "truth_quoted"),
        ),
        ({"hinted_feedback": "The note says it is wrong.\nVerdict: incorrect"}, ("critique", "truth_quoted")),
        ({"solve": "Answer: 12", "hinted_feedback": "That is wrong."}, ("critique", "unparsable_feedback")),
        ({"solve": " \n "}, ("critique", "empty_answer")),
        ({"annotate_refine": " "}, ("filter", "empty_answer")),
    ],
)
async def test_what_the_untrained_annotator_gets_wrong_is_dropped_by_name(
    said: dict[str, str], reason: tuple[str, str]
) -> None:
    good = {"solve": "Answer: 12", "hinted_feedback": NO, "annotate_refine": f"Count.\nAnswer: {TRUTH}"}
    assert why(await through(method(), Model(**{**good, **said}), 1)) == reason


@pytest.mark.parametrize(
    ("initial", "known", "verdict", "reason"),
    [
        ("Answer: 12", "They do not lead to 12: there is a wrong step.", "incorrect", None),
        (f"Answer: {TRUTH}.0", f"They are all right, and they lead to {TRUTH}.0.", "correct", None),
        ("I cannot.", "They lead to no final answer.", "incorrect", None),
        ("Answer: 12", "They do not lead to 12: there is a wrong step.", "correct", "wrong_verdict"),
    ],
)
async def test_a_scaffold_begins_the_texts_and_what_follows_is_checked_all_the_same(
    initial: str, known: str, verdict: str, reason: str | None
) -> None:
    self_ = method(scaffold=True)
    model = Model(solve=initial, hinted_feedback=f" {verdict}", annotate_refine=f" Count.\nAnswer: {TRUTH}")
    outcomes = await through(self_, model, 1)
    known = f"I do the steps of this answer again. {known}\nVerdict:"
    assert [request.prefill for request in model.asked] == ["", known, "Step 1:"]
    if reason:
        assert why(outcomes) == ("verify", reason)
        return
    row = last(outcomes)
    assert (
        row.payload["feedback"] == f"{known} {verdict}"
        and row.payload["text"] == f"Step 1: Count.\nAnswer: {TRUTH}"
        and row.payload["hinted"]
    )
    assert "started for it, up to the verdict, from the ground truth (scaffold)" in self_.notes([row])[0]
    assert self_.stages()["critique"].config != method().stages()["critique"].config


async def test_an_endpoint_annotates_without_the_truth_and_its_word_is_taken() -> None:
    self_ = method(annotator=ENDPOINT)
    model = Model(solve="Answer: 12", annotate_feedback=NO, annotate_refine="6 + 7.\nAnswer: 13")
    row = last(await through(self_, model, 1))
    assert model.steps == ["direct/solve", "self/annotate_feedback", "self/annotate_refine"]
    assert not any(TRUTH in json.dumps(request.messages) for request in model.asked)
    assert (
        row.payload["text"] == "6 + 7.\nAnswer: 13"
        and not row.payload["hinted"]
        and row.payload["annotator"] == "m@1"
    )
    assert "distillation" in self_.notes([row])[0]
    assert self_.engine("critique", 1) == self_.options.annotator
    assert [self_.engine(stage, 1) for stage in ("generate", "verify", "propose")] == [
        None
    ] * 3 and self_.engine("critique", 2) is None
    assert method().engine("critique", 1) == UNTRAINED


def test_what_the_annotator_is_goes_into_the_fingerprint_and_how_patiently_it_is_asked_does_not() -> None:
    one, other = (
        method(annotator=ENDPOINT),
        method(annotator={**ENDPOINT, "concurrency": 3, "request_timeout": 9}),
    )
    assert one.options.fingerprint() == other.options.fingerprint()
    assert one.stages()["critique"].config == other.stages()["critique"].config
    new = method(annotator={**ENDPOINT, "model": "other"})
    assert (
        new.options.fingerprint() != one.options.fingerprint()
        and new.stages()["critique"].config != one.stages()["critique"].config
    )


async def test_invariant_8_the_truth_is_in_no_unhinted_prompt() -> None:
    """All prompts of both phases, of new questions and of evaluation.

    The model never says the truth, so only a leak could bring it in.
    """
    seen: dict[str, bool] = {}
    for self_ in (method(), method(annotator=ENDPOINT)):
        for round_ in (1, 2):
            for first in (YES, NO):
                model = Model(
                    solve="Answer: 12",
                    feedback=[first, NO],
                    hinted_feedback=first,
                    annotate_feedback=first,
                    refine="Answer: 13",
                    annotate_refine="Answer: 13",
                )
                await through(self_, model, round_)
                for request in model.asked:
                    seen[request.step] = seen.get(request.step, False) or TRUTH in json.dumps(
                        [request.messages, request.prefill]
                    )
        model = Model(feedback=NO, refine="Answer: 13", propose="1. How many?")
        await self_.improve(TASK, Completion("Answer: 12", "stop", 1, 1), model.llm(TASK, 2), Sampling())
        await self_.propose(Row("c", {"shown": [TASK.payload["question"]] * 6}, ["t1"]), model.llm(TASK, 2))
        seen |= {request.step: TRUTH in json.dumps(request.messages) for request in model.asked}
    hinted = {step for step, told in seen.items() if told}
    assert hinted == {"self/hinted_feedback"}
    assert set(seen) - hinted == {
        "direct/solve",
        "self/feedback",
        "self/refine",
        "self/annotate_feedback",
        "self/annotate_refine",
        "self/propose",
    }


async def test_bare_answers_are_kept_where_asked_for() -> None:
    model = Model(solve="Answer: 12", hinted_feedback=" incorrect", annotate_refine=f" {TRUTH}")
    row = last(await through(method(bare_answers=True, scaffold=True), model, 1))
    assert row.payload["text"] == f"Answer: {TRUTH}" and model.asked[-1].prefill == "Answer:"


@pytest.mark.parametrize("prompt", ["direct/solve", "direct/short"])
async def test_shots_mark_their_answers_as_the_question_asks(prompt: str) -> None:
    self_ = method(recipe={"prompts": {"direct/solve": SHIPPED.source(prompt)}})
    for first in (NO, YES):
        solved = "Answer: 12" if first == NO else f"Answer: {TRUTH}"
        model = Model(solve=solved, hinted_feedback=first, annotate_refine=f"Count.\nAnswer: {TRUTH}")
        last(await through(self_, model, 1))
        *_, asked, refined = model.asked
        text = json.dumps(asked.messages)
        assert ("boxed{33}" in text) == (prompt == "direct/solve") and ("Answer: 33" in text) != (
            "boxed{33}" in text
        )
        assert (f"wrong, it should come to {TRUTH}" in text) == (first == NO)
        answers_ = [m["content"] for m in refined.messages if m["role"] == "assistant"]
        assert len(answers_) == 4 and not any(is_bare(a) for a in answers_)
        assert all(answers.extract(a, "number").answer for a in answers_)
        shots = [m["content"] for m in asked.messages if m["role"] == "assistant"]
        assert all(
            "Step 1:" in shot and read_verdict(Completion(shot, "stop", 1, 1), WORDS) is not None
            for shot in shots
        )


def test_without_truth_an_endpoint_can_annotate() -> None:
    made = method(annotator=ENDPOINT, recipe={"verifier": "majority_vote"})
    assert made.engine("critique", 1).base_url == ENDPOINT["base_url"] and made.engine("critique", 2) is None
