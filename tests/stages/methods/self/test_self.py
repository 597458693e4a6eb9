"""SELF, row by row: both phases, and the traps of the method (2.6).

Also what is trained on, token by token, and what a prompt may not hold.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.engines.base import Completion, Message, Request, Sampling
from pipeline.errors import ConfigError, DataError
from pipeline.methods import example_templates
from pipeline.prompts import SHIPPED
from pipeline.protocols import UNTRAINED
from pipeline.publish import SFT, Lineage, measure, publish
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.stage import STAGES
from pipeline.training.build import build_trainer
from stages import answers
from stages.methods.self.critic import read_verdict
from stages.methods.self.method import SelfEvolution
from stages.methods.self.texts import is_bare
from stages.steps import decontaminate, dedup, verifiers
from tests.conftest import tiny_recipe
from tests.publish.conftest import FACTS
from tests.training.conftest import make_spec, rounds, tiny_model, tokenizer
from tests.training.test_preparation import config

__all__ = ["make_spec", "rounds", "tiny_model", "tokenizer"]

TRUTH = "918273"
TASK = Row(
    "t1", {"task_id": "t1", "question": "How many stars are there?", "answer": TRUTH, "answer_type": "number"}
)
WORDS = ("correct", "incorrect")
YES, NO = "Well done.\nVerdict: correct", "That cannot be.\nVerdict: incorrect"
ENDPOINT = {
    "kind": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "model": "teacher",
    "api_key_env": "TEACHER_KEY",
}
Say = str | Callable[[Request], str]


class Model:
    """Says for each step what it is told to, one after the other where a list is given.

    It remembers what it was asked.
    """

    def __init__(self, **said: Say | list[str]) -> None:
        self.said: dict[str, Iterator[str] | Say] = {
            k: iter(v) if isinstance(v, list) else v for k, v in said.items()
        }
        self.asked: list[Request] = []

    async def send(self, request: Request) -> list[Completion]:
        self.asked.append(request)
        text = self.said[request.step.rsplit("/", 1)[-1]]
        text = text if isinstance(text, str) else text(request) if callable(text) else next(text)
        return [Completion(text, "stop", 9, len(text.split())) for _ in range(request.n)]

    def llm(self, row: Row, round_: int) -> LLM:
        return LLM(self.send, row.id, "m@1", Sampling(max_tokens=50), round_)

    @property
    def steps(self) -> list[str]:
        return [request.step for request in self.asked]


def method(**options: Any) -> SelfEvolution:
    changes = {"new_questions": True, "questions_per_round": 1, **options.pop("recipe", {})}
    return SelfEvolution(tiny_recipe(method={"name": "self", **options}, **changes))


async def through(
    self_: SelfEvolution, model: Model, round_: int, task: Row = TASK
) -> list[tuple[str, Outcome]]:
    """Take a task through the four stages, as long as it is kept."""
    outcomes: list[tuple[str, Outcome]] = []
    row = task
    for name in STAGES:
        outcome = await self_.stages()[name].row(row, model.llm(row, round_))
        outcomes.append((name, outcome))
        if not isinstance(outcome, Kept):
            break
        [row] = outcome.rows
    return outcomes


def last(outcomes: list[tuple[str, Outcome]]) -> Row:
    name, outcome = outcomes[-1]
    assert name == "verify" and isinstance(outcome, Kept), outcomes[-1]
    return outcome.rows[0]


def why(outcomes: list[tuple[str, Outcome]]) -> tuple[str, str]:
    name, outcome = outcomes[-1]
    assert isinstance(outcome, Dropped)
    return name, outcome.reason


# --- Phase 1.


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


# --- Phase 2.


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
        recipe={"verifier": "tests.stages.methods.self.test_self:any_text"},
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


def test_what_stages_depend_on_is_in_their_fingerprints() -> None:
    plain, talks, brief = method(), method(keep_feedback=True), method(refine_in_evaluation=False)
    assert plain.stages()["filter"].config != talks.stages()["filter"].config, (
        "a looping feedback is dropped where feedback is learnt"
    )
    assert (
        set(example_templates(plain))
        == set(example_templates(brief))
        == {"direct/solve", "self/feedback", "self/refine"}
    )


async def test_several_answers_each_have_a_criticism_of_their_own() -> None:
    self_ = method(samples=3)
    outcome = await self_.generate(TASK, Model(solve="Answer: 1").llm(TASK, 2))
    assert isinstance(outcome, Kept) and len({row.id for row in outcome.rows}) == 3
    again = await self_.generate(TASK, Model(solve="Answer: 1").llm(TASK, 3))
    assert not {row.id for row in outcome.rows} & {row.id for row in again.rows}, "another round, other rows"


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


# --- Examples and pairs.


async def made(round_: int, first: str = NO, **options: Any) -> Row:
    said = {
        "hinted_feedback": first,
        "annotate_refine": f"Two steps.\nAnswer: {TRUTH}",
        "feedback": [first, YES],
        "refine": "Answer: 13",
    }
    solved = "Answer: 12" if first == NO else f"Answer: {TRUTH}"
    return last(await through(method(**options), Model(solve=solved, **said), round_))


def turns(messages: list[Message]) -> list[str]:
    return [m["role"] for m in messages]


async def test_a_meta_skill_row_gives_three_examples_and_an_evolved_one_the_direct_answer() -> None:
    meta, evolved = await made(1), await made(2)
    direct, feedback, refine = method().examples(meta)
    assert [e.completion[0]["content"] for e in (direct, feedback, refine)] == [
        meta.payload["text"],
        meta.payload["feedback"],
        meta.payload["text"],
    ]
    assert [turns(e.prompt) for e in (direct, feedback, refine)] == [
        ["user"],
        ["user", "assistant", "user"],
        ["user", "assistant", "user", "assistant", "user"],
    ]
    assert direct.prompt == method().question(meta) and feedback.prompt == refine.prompt[:3], (
        "one conversation serves all skills"
    )
    assert [e.completion[0]["content"] for e in method().examples(evolved)] == ["Answer: 13"]
    assert len(method(keep_feedback=True).examples(evolved)) == 3
    worked = Row("d", {**TASK.payload, "text": f"Answer: {TRUTH}"})
    assert [e.completion[0]["content"] for e in method().examples(worked)] == [worked.payload["text"]]


async def test_trap_2_no_loss_on_any_turn_but_the_last(
    make_spec: Any, tokenizer: Any, tmp_path: Path
) -> None:
    """Every kind of SELF record goes through TRL's own preparation; labels are compared token by token."""
    rows = [await made(1), await made(1, YES), await made(2, keep_feedback=True), await made(2, YES)]
    examples = [(row, i, e) for row in rows for i, e in enumerate(method(keep_feedback=True).examples(row))]
    published = [
        SFT.row(
            Lineage(
                row_id=f"{n}-{i}",
                parent_ids=row.parents,
                task_id="t1",
                kind="synthetic",
                round=1,
                method="self",
            ),
            prompt=e.prompt,
            completion=e.completion,
        )
        for n, (row, i, e) in enumerate(examples)
    ]
    publish(measure(published, tokenizer), tmp_path / "d", FACTS, 0)
    spec = make_spec(max_length=256)
    trainer = build_trainer(config(spec, [tmp_path / "d"]))
    data = load_from_disk(str(tmp_path / "d"))["train"]
    assert len(trainer.train_dataset) == len(data) == 12
    kinds = set()
    for prepared, row in zip(trainer.train_dataset, data, strict=True):
        learnt = [t for t in prepared["labels"] if t != -100]
        ids = tokenizer(row["completion"][0]["content"] + "<|im_end|>\n", add_special_tokens=False)[
            "input_ids"
        ]
        assert learnt == ids and prepared["labels"][-len(ids) :] == ids, "only the end is learnt"
        assert (
            prepared["input_ids"][: -len(ids)]
            == tokenizer.apply_chat_template(
                row["prompt"], tokenize=True, return_dict=True, add_generation_prompt=True
            )["input_ids"]
        )
        assert [
            t for t, label in zip(prepared["input_ids"], prepared["labels"], strict=True) if label == -100
        ] == prepared["input_ids"][: -len(ids)]
        kinds.add(tuple(turns(row["prompt"])))
    assert len(kinds) == 3


async def test_pairs_are_the_refined_against_the_first_answer_where_the_critic_said_no() -> None:
    mended, fine = await made(2), await made(2, YES)
    [pair] = method().pairs([mended, fine], [])
    assert (
        pair.chosen_row is mended
        and pair.rejected_row.id == mended.id
        and pair.prompt == method().question(mended)
    )
    lineage = pair.rejected_row.payload
    assert (
        lineage["verdict"] == {"correct": False, "by": "the model itself"}
        and lineage["model"] == mended.payload["initial_model"]
    )
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("Answer: 13", "Answer: 12")


async def test_a_first_answer_that_was_cut_off_is_no_wrong_one() -> None:
    mended = await made(2)
    cut = Row(mended.id, {**mended.payload, "initial_finish_reason": "length"}, mended.parents)
    looping = Row(
        mended.id, {**mended.payload, "initial": "so it is and so it is again, then " * 9}, mended.parents
    )
    assert list(method().pairs([cut, looping], [])) == []
    assert len(list(method(recipe={"filters": {"drop_truncated": False}}).pairs([cut], []))) == 1


async def test_each_text_goes_with_the_sampling_it_was_made_with() -> None:
    self_ = method(
        sampling={"answer": {"max_tokens": 11}, "feedback": {"max_tokens": 22}, "refine": {"max_tokens": 33}}
    )
    said = {"solve": "Answer: 12", "hinted_feedback": NO, "annotate_refine": f"Count.\nAnswer: {TRUTH}"}
    row = last(await through(self_, Model(**said), 1))
    assert [(e.sampling or row.payload["sampling"])["max_tokens"] for e in self_.examples(row)] == [
        33,
        22,
        33,
    ]
    [pair] = self_.pairs([row], [])
    assert (pair.sampling["chosen"]["max_tokens"], pair.sampling["rejected"]["max_tokens"]) == (33, 11)


async def test_feedback_that_is_learnt_is_filtered_and_searched_for_held_out_questions() -> None:
    loops = "it is wrong and it is wrong and it is wrong, " * 8 + f"\n{NO}"
    said = {"solve": "Answer: 12", "hinted_feedback": loops, "annotate_refine": f"Count.\nAnswer: {TRUTH}"}
    assert why(await through(method(), Model(**said), 1)) == ("filter", "feedback_repetition")
    leak = "seven tall ships sail to the island of gold with ninety two brave sailors"
    row = last(
        await through(method(), Model(**said | {"hinted_feedback": f"It is not as {leak} said.\n{NO}"}), 1)
    )
    step = decontaminate.held_out([leak, "What is it?"], 13, method().trained_texts)
    assert [why.reason for _, why in step(lambda: [row])] == ["held_out_ngram"]
    assert [why for _, why in decontaminate.held_out([leak, "What is it?"], 13)(lambda: [row])] == [None], (
        "the answer alone does not show it"
    )


def test_the_card_says_who_judged() -> None:
    assert (
        method().verified_by(1).startswith("ground_truth, of the first")
        and method(annotator=ENDPOINT).verified_by(1) == "the annotator"
    )
    assert (
        "the model itself" in method().verified_by(2)
        and "distillation" in method(annotator=ENDPOINT).pair_notes(1)[0]
    )
    assert "No ground truth was used" in method().pair_notes(2)[0]


async def test_two_first_answers_are_two_pairs_though_they_are_refined_to_the_same() -> None:
    """Deduplication before pairing must not take a row's wrong first answer for a repetition.

    Only that row has one; the other's first answer is right.
    """
    rows = [
        await made(2),
        Row("o", {**(await made(2)).payload, "initial": "Answer: 13", "initial_verdict": True}),
    ]
    step = dedup.exact_duplicates(tuple, method().pair_key)
    assert [why for _, why in step(lambda: rows)] == [None, None]


async def test_a_row_that_teaches_feedback_is_no_repetition_when_its_first_answer_is_another() -> None:
    wrong, right, evolved = await made(1), await made(1, YES), await made(2)
    other = Row("o", {**wrong.payload, "initial": "Answer: 11"})
    assert method().dedup_text(wrong) != method().dedup_text(other) and method().dedup_text(
        wrong
    ) != method().dedup_text(right)
    assert (
        method().dedup_text(evolved)
        == evolved.payload["text"]
        != method(keep_feedback=True).dedup_text(evolved)
    )


async def test_precision_leaves_out_the_models_own_questions_whatever_the_verifier() -> None:
    self_, row = method(), await made(2)
    assert self_._is_right(row, f"Answer: {TRUTH}") is True and self_._is_right(row, "Answer: 0") is False
    assert self_._is_right(Row("p", {**row.payload, "proposed_by": "m@1"}), "Answer: 0") is None


# --- Inference.


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


# --- New questions.


async def test_a_reply_gives_task_rows_without_an_answer_and_a_cut_off_line_gives_none() -> None:
    asking = Row("c", {"shown": ["Is it?"] * 6}, ["t1", "t2"])

    async def propose(text: str, finish: str = "stop") -> Outcome:
        async def send(request: Request) -> list[Completion]:
            assert (
                request.prefill == "1."
                and request.step == "self/propose"
                and request.messages[-1]["content"].count("Is it?") == 6
            )
            return [Completion(text, finish, 1, 1)]

        return await method().propose(asking, LLM(send, "c", "m@1", Sampling(), 3))

    whole = await propose(" One is?\n2. Two is?")
    assert isinstance(whole, Kept) and [row.payload["question"] for row in whole.rows] == [
        "One is?",
        "Two is?",
    ]
    assert all(
        row.payload["answer"] is None and row.payload["task_id"] == row.id and row.parents == ["t1", "t2"]
        for row in whole.rows
    )
    cut = await propose(" One is?\n2. Two i", "length")
    assert isinstance(cut, Kept) and [row.payload["question"] for row in cut.rows] == ["One is?"]
    assert (await propose(" One", "length")) == Dropped("no_question", "the reply contains none", " One")


# --- Options.


def test_new_questions_begin_in_the_second_round_of_phase_2() -> None:
    assert [method().proposals(r) is not None for r in (1, 2, 3, 4)] == [False, False, True, True]
    assert [method(new_questions={"from_round": 2}).proposals(r) is not None for r in (1, 2)] == [False, True]
    assert method(new_questions={"calls": 0}).proposals(5) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": {"verifier": "majority_vote"}},
            "method.annotator is null.*verifier other than majority_vote",
        ),
        (
            {"recipe": {"tasks": {"source": "jsonl", "path": "t", "columns": {"answer": None}}}},
            "tasks.columns.answer",
        ),
        (
            {"annotator": ENDPOINT, "scaffold": True},
            "method.scaffold starts the untrained model's texts for it",
        ),
        (
            {"scaffold": True, "recipe": {"engine": ENDPOINT}},
            "method.scaffold starts the untrained model's texts for it",
        ),
        (
            {"recipe": {"rounds": 2, "new_questions": False}},
            "phase 2 would ask questions whose answers phase 1 was shown and trained on",
        ),
        ({"verdict_words": ["Yes", "yes "]}, "two different words"),
        (
            {"annotator": {**ENDPOINT, "modle": "x"}},
            r"method\.annotator\.modle: unknown key 'modle'; did you mean 'model'\?",
        ),
        ({"annotator": {"kind": "vllm"}}, r"method\.annotator: kind vllm needs replicas of its own"),
        ({"new_questions": {"shwon": 3}}, "did you mean 'shown'"),
        (
            {"recipe": {"rounds": 3, "tasks": {"source": "jsonl", "path": "t", "answer_type": "choice"}}},
            "calls: 0 for multiple-choice",
        ),
        ({"recipe": {"rounds": 3}, "new_questions": {"from_round": 1}}, "from_round is in phase 1"),
        ({"annotator": {**ENDPOINT, "base_url": "https://me:sk-1@host/v1"}}, "holds credentials"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method(**options)


def test_without_truth_an_endpoint_can_annotate() -> None:
    made = method(annotator=ENDPOINT, recipe={"verifier": "majority_vote"})
    assert made.engine("critique", 1).base_url == ENDPOINT["base_url"] and made.engine("critique", 2) is None
