"""What SELF trains on, token by token: examples of both phases, pairs, and what is a repetition."""

from pathlib import Path
from typing import Any

from datasets import load_from_disk

from pipeline.engines.base import Message
from pipeline.publish import SFT, Lineage, measure
from pipeline.publish.dataset import publish
from pipeline.rows import Row
from pipeline.training.build import build_trainer
from stages.steps import decontaminate, dedup
from tests.publish.conftest import FACTS
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
from tests.training.conftest import make_spec, rounds, tiny_model, tokenizer
from tests.training.test_preparation import config

__all__ = ["make_spec", "rounds", "tiny_model", "tokenizer"]


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
