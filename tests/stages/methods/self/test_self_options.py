"""Options of SELF: what depends on them, when new questions begin, and which are refused."""

from typing import Any

import pytest

from pipeline.engines.base import Completion, Request, Sampling
from pipeline.errors import ConfigError
from pipeline.methods import example_templates
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.rundir import may_change
from pipeline.runner.llm import LLM
from pipeline.stage import UNTRAINED, Seat
from stages.rounds.seats import chosen_by
from tests.stages.methods.self.scripted import ENDPOINT, method


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
        (
            {"annotator": {"modle": "x"}},
            r"method\.annotator\.modle: unknown key 'modle'; did you mean 'model'\?",
        ),
        (
            {"annotator": {"model": "x"}, "recipe": {"engine": ENDPOINT}},
            "method.annotator: model x is served by",
        ),
        ({"annotator": {"model": "x"}, "scaffold": True}, "another annotator or an endpoint rarely allows"),
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


def test_another_model_annotates_from_a_seat_of_its_own() -> None:
    self_ = method(annotator={"model": "/models/qwen", "engine": {"kind": "vllm", "cpu_kv_gib": 1}})
    seat = self_.engine("critique", 1)
    assert isinstance(seat, Seat) and (seat.model, seat.called) == ("/models/qwen", "method.annotator")
    assert chosen_by(self_, "critique", 1) == seat and chosen_by(self_, "critique", 2) is None
    assert self_.options.annotator_name() == "qwen" and self_.verified_by(1) == "the annotator"
    assert method(annotator={"model": "Qwen/Q"}).options.annotator_name() == "Qwen/Q"
    assert may_change("method.annotator.engine.cpu_kv_gib", self_.recipe)
    assert not may_change("method.annotator.model", self_.recipe)


def test_methods_may_name_an_engine_in_three_ways() -> None:
    endpoint = method(annotator=ENDPOINT)
    assert chosen_by(endpoint, "critique", 1) == Seat(engine=endpoint.options.annotator)
    assert chosen_by(method(), "critique", 1) == Seat(UNTRAINED)
    assert chosen_by(method(), "generate", 1) is None
