"""Agent-R's stages, called as they are, on the counter game with a scripted model that plays and judges."""

import asyncio

import pytest

from pipeline import prompts
from pipeline.engines.base import Completion, Request
from pipeline.errors import EngineError
from stages.environments import EnvTask
from stages.methods.agent_r.method import REFLECTION, SENTENCES
from stages.methods.agent_r.step_judge import parse_judgement
from tests.stages.methods.agent_r.scripted import method, model, task_rows, through
from tests.stages.methods.agent_r.search.counter import Counter
from tests.stages.methods.agent_r.search.player import completion


def test_the_solver_as_judge_finds_the_step_that_takes_the_goal_farther_away() -> None:
    m, sent = method(judge="oracle"), []
    records = [
        r.payload
        for row in task_rows(m)[0]
        for r in through(m, row, model(sent=sent))["critique"]
        if r.payload["kind"] == "revision"
    ]
    assert records and all(r.step != "agent_r/judge" for r in sent) and m.stages()["critique"].prompts == ()
    for record in records:
        *good, last = record["judge"]
        assert {j["judgement"] for j in good} <= {"good", "uncertain"} and record["first_bad"] in (
            None,
            last["step"],
        )
        game = Counter()
        game.reset(EnvTask(record["entry"]["id"], "train", record["entry"]["spec"]))
        for step in record["before"]:
            plan = game.oracle()
            game.step(step["action"])
        if record["t_prime"] and record["t_prime"] == record["first_bad"]:
            left = game.oracle()
            assert left is None or len(left) >= len(plan), "the last step that is kept is the first bad one"
    assert any(r["t_prime"] == r["first_bad"] for r in records) and any(
        r["first_bad"] and len(r["judge"]) > 1 for r in records
    )


def test_a_tree_becomes_verified_records_and_every_row_is_accounted_for() -> None:
    m, seen = method(), {"revision": 0, "good": 0}
    for row in task_rows(m)[0]:
        found = through(m, row, model())
        tree = found["generate"][0].payload
        assert (
            tree["search"]["steps_per_child"] <= 1.0 and tree["search"]["leaves"] == tree["tree"][0]["visits"]
        )
        assert len(found["critique"]) == len(found["filter"]) + len(found["filter dropped"])
        assert len(found["filter"]) == len(found["verify"]) + len(found["verify dropped"])
        assert {o.reason for _, o in found["filter dropped"] + found["verify dropped"]} <= {
            "no_place_to_turn",
            "too_many_steps",
            "over_before_reflection",
            "step_not_executed",
            "reward_too_low",
        }
        for record in (r.payload for r in found["verify"]):
            seen[record["kind"]] += 1
            assert (
                record["reward"] >= 0.5
                and "tree" not in record
                and record["split"] == "train"
                and len(record["messages"]) == len(record["learn"])
            )
            if record["kind"] == "revision":
                assert record["prefix"] < record["t_prime"] == len(record["before"])  # F7
    assert min(seen.values()) > 3


def test_concatenated_learnt_turns_are_the_reflection_and_the_good_rest() -> None:
    m = method()
    for row in task_rows(m)[0]:
        for record in (r.payload for r in through(m, row, model())["verify"]):
            learnt = [
                t["content"] for t, loss in zip(record["messages"], record["learn"], strict=True) if loss
            ]
            rest = [step["response"] for step in record["after"]]
            expected = [record["reflection"], *rest] if record["kind"] == "revision" else rest
            assert learnt == expected[: len(learnt)] and len(learnt) > (record["kind"] == "revision")
            assert all(
                t["role"] == "assistant"
                for t, loss in zip(record["messages"], record["learn"], strict=True)
                if loss
            )


def test_what_is_stored_is_what_a_fresh_environment_says() -> None:
    m = method()
    row = task_rows(m)[0][3]
    for record in (r.payload for r in through(m, row, model())["verify"]):
        env = Counter()
        first = env.reset(next(t for t in env.tasks("train") if t.id == record["entry"]["id"]))
        assert first == record["question"]
        for said, heard in zip(record["messages"][::2], record["messages"][1::2], strict=False):
            assert env.step(said["content"].rpartition("Action: ")[2]).observation == heard["content"]


def test_the_same_seed_gives_the_same_rows_in_every_stage() -> None:
    m = method()
    row = task_rows(m)[0][5]
    first, again = (through(m, row, model()) for _ in range(2))
    for name in m.stages():
        assert [(r.id, r.payload, r.parents) for r in first[name]] == [
            (r.id, r.payload, r.parents) for r in again[name]
        ]
    assert len({r.id for r in first["critique"]}) == len(first["critique"])


def test_the_judge_stops_at_the_first_bad_step_after_the_ways_part() -> None:
    m, sent = method(), []
    for row in task_rows(m)[0]:
        for record in (r.payload for r in through(m, row, model("Bad", sent))["critique"]):
            if record["kind"] == "revision":
                assert [j["step"] for j in record["judge"]] == [record["prefix"] + 1] == [record["first_bad"]]
    judged = [r for r in sent if r.step == "agent_r/judge"]
    assert judged and len({(r.row, r.key("m")) for r in judged}) == len(judged), "a step is judged once"
    assert all(r.sampling.temperature == 0 and r.sampling.max_tokens == 256 for r in judged)


def test_the_pairs_of_a_tree_are_judged_side_by_side_and_a_failure_waits_for_the_others() -> None:
    m, row = method(), task_rows(method())[0][4]
    running, most, ended = 0, 0, 0

    async def slow(request: Request) -> list[Completion]:
        nonlocal running, most, ended
        if request.step != "agent_r/judge":
            return await model()(request)
        first, running = most == 0, running + 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running, ended = running - 1, ended + 1
        if first:
            raise EngineError("busy", retryable=True)
        return await model("Bad")(request)

    with pytest.raises(EngineError, match="busy"):
        through(m, row, slow)
    assert most > 1 and running == 0 and ended >= most


def test_arms() -> None:
    row = task_rows(method())[0][4]
    direct, good_only, only = (
        through(method(arm=a), row, model("Bad")) for a in ("direct_revision", "good_only", "revision_only")
    )
    revisions = [r.payload for r in direct["critique"] if r.payload["kind"] == "revision"]
    assert revisions and all(r["judge"] == [] and r["first_bad"] is None for r in revisions)
    nodes = direct["generate"][0].payload["tree"]
    for r in revisions:
        bad = nodes[r["leaves"][1]]
        assert r["t_prime"] in ((bad["depth"] - (bad["end"] == "done")), None)
    assert {r.payload["kind"] for r in good_only["critique"]} == {"good"} and {
        r.payload["kind"] for r in only["critique"]
    } == {"revision"}
    assert method(arm="good_only").stages()["critique"].prompts == ()


def test_alpha_rises_by_round_and_the_last_one_goes_on() -> None:
    """With 0.2 as the only reward but 1.0, alpha 0.1 makes lost games good.

    Later rounds do not take them.
    """
    row = task_rows(method())[0][6]
    rewards = [
        {
            r.payload["reward"]
            for r in through(method(alpha=[0.1, 1.0], arm="good_only"), row, model(), k)["verify"]
        }
        for k in (1, 2, 3)
    ]
    assert rewards[1] == rewards[2] == {1.0} != rewards[0]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("It helps.\nJudgement: Good", "good"),
        ("Judgement: Bad.", "bad"),
        ("It is not good.\nJudgement: Uncertain\n\n", "uncertain"),
        ("Judgement: Bad\nI mean it.", None),
        ("Judgement: not good", None),
        ("The Judgement: Bad", None),
        ("bad", None),
        ("", None),
    ],
)
def test_fault_15_only_a_last_line_that_says_so_is_a_judgement(text: str, label: str | None) -> None:
    assert parse_judgement(text) == label


def test_fault_15_an_unreadable_judge_is_asked_once_more_and_then_is_uncertain() -> None:
    asked: list[Request] = []

    async def mumbling(request: Request) -> list[Completion]:
        if request.step == "agent_r/judge":
            asked.append(request)
            return [completion("Bad, I would say")]
        return await model()(request)

    m = method(arm="revision_only")
    found = through(m, task_rows(m)[0][4], mumbling)
    judged = {j["node"]: j for r in found["critique"] for j in r.payload["judge"]}
    assert (
        judged
        and all(j["judgement"] == "uncertain" and not j["read"] for j in judged.values())
        and len(asked) == 2 * len(judged)
    )
    assert all(r.payload["first_bad"] is None for r in found["critique"])

    async def refusing(request: Request) -> list[Completion]:
        if request.step == "agent_r/judge":
            raise EngineError("too long")
        return await model()(request)

    assert through(m, task_rows(m)[0][4], refusing)["critique"], (
        "a step that is too long to be judged is no reason to lose the tree"
    )


def test_reflections_are_ten_different_sentences_drawn_by_seed_or_the_judges_reason() -> None:
    said = {
        prompts.render(REFLECTION, number=i, reason="", action="reflect")[0]["content"]
        for i in range(SENTENCES)
    }
    assert len(said) == SENTENCES and all(
        s.startswith("Thought: ") and s.endswith("\nAction: reflect") for s in said
    )
    row = task_rows(method())[0][4]
    drawn = {
        r.payload["signal"]
        for r in through(method(), row, model("Bad"))["critique"]
        if r.payload["kind"] == "revision"
    }
    assert len(drawn) > 1
    told = through(method(reason="judge", arm="revision_only"), row, model("Bad"))["critique"]
    with_reason = {
        r.id for r in told if r.payload["reflection"] == "Thought: It does something.\nAction: reflect"
    }
    assert with_reason == {r.id for r in told if r.payload["t_prime"] == r.payload["first_bad"]}, (
        "a step that is not in the record is not spoken of"
    )
    assert with_reason


def test_a_tree_without_a_good_leaf_is_dropped_with_the_best_reward() -> None:
    async def idle(request: Request) -> list[Completion]:
        return [completion("Action: fly")] * request.n

    found = through(method(), task_rows(method())[0][0], idle)
    assert [o.reason for _, o in found["critique dropped"]] == ["no_good_leaf"]
