"""SELF through the real runner, on the scripted engine.

A round of each phase, and what people see of them.
"""

import asyncio
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.errors import StageError
from pipeline.lineage import trace
from pipeline.overview import overview
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from stages.reports.page import render
from stages.reports.table import rounds_table
from stages.rounds.loop import Loop
from stages.steps.rouge import rouge_l
from tests.jobs.conftest import selfloop
from tests.stages.methods.self.rounds import asked, make, payloads, recipe_in
from tests.stages.reports.parsed import Parsed
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(300)]

ROUNDS = (1, 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    """A round of each phase up to its published data and pairs, and one evaluation."""
    folder = tmp_path_factory.mktemp("self")
    run = RunDir(folder / "run")

    async def all_of_it() -> None:
        loop = await make(
            run, recipe_in(folder, tiny_model, train={"kind": "sft_then_dpo"}), ROUNDS, publish=True
        )
        await loop.evaluate("base")

    asyncio.run(all_of_it())
    return run


def right(payload: dict[str, Any], name: str) -> bool:
    return payload[name].endswith(f"Answer: {payload['answer']}")


def test_no_row_is_lost_and_questions_differ_from_round_to_round(finished: RunDir) -> None:
    drawn: set[str] = set()
    for round_ in ROUNDS:
        for stage in (*STAGES, "publish", "pairs"):
            finished.manifest(finished.stage(round_, stage)).check()
        tasks = {p["task_id"] for p in payloads(finished, round_, "generate") if "proposed_by" not in p}
        assert len(tasks) == 40 and not tasks & drawn
        drawn |= tasks
    phases = [{p["phase"] for p in payloads(finished, r, "critique")} for r in ROUNDS]
    assert phases == [{"meta_skill"}, {"evolution"}]


async def test_tasks_run_out_with_a_sentence(finished: RunDir) -> None:
    with pytest.raises(
        StageError, match="round 3: 0 of 80 tasks have not been asked before, and questions_per_round is 40"
    ):
        await Loop(finished, finished.recipe()).stage(3, "generate")


def test_each_phase_asks_what_it_has_to(finished: RunDir) -> None:
    steps = [Counter(r["step"] for r in asked(finished, r, "critique")) for r in ROUNDS]
    unread = [
        finished.manifest(finished.stage(r, "critique")).rows_dropped.get("unparsable_feedback", 0)
        for r in ROUNDS
    ]
    assert all(unread)
    assert steps[0] == {"self/hinted_feedback": 40, "self/annotate_refine": 40 - unread[0]}
    made = finished.manifest(finished.stage(2, "generate")).rows_out
    assert steps[1] == {"self/feedback": 2 * made - unread[1], "self/refine": made - unread[1]}


def test_no_prompt_holds_the_truth_but_those_that_say_so(finished: RunDir) -> None:
    """What the model itself has said before is taken out of a prompt, as is the question.

    No number that is left is the answer.
    """
    tasks = {row.id: row.payload for row in finished.rows(finished.tasks("train"))}
    seen: Counter[tuple[str, bool]] = Counter()
    for round_ in ROUNDS:
        generated = {row.id: row.payload for row in finished.rows(finished.stage(round_, "generate"))}
        for stage in ("generate", "critique"):
            replies = {
                c["text"].strip()
                for r in [*asked(finished, round_, "generate"), *asked(finished, round_, "critique")]
                for c in r["completions"]
            }
            for record in asked(finished, round_, stage):
                task = tasks.get(record["row"]) or generated.get(record["row"], {})
                if task.get("answer") is None:
                    continue
                text = "\n".join(
                    m["content"] for m in record["messages"] if m["content"] not in replies
                ).replace(task["question"], "")
                for reply in sorted(replies, key=len, reverse=True):
                    text = text.replace(reply, "")
                seen[record["step"], task["answer"] in re.findall(r"\d+", text)] += 1
    assert {step for step, told in seen if told} == {"self/hinted_feedback"}
    hinted = seen["self/hinted_feedback", True], seen["self/hinted_feedback", False]
    assert sum(hinted) == 40 and min(hinted) > 5, "a right answer needs no truth beside it"
    assert seen["self/feedback", False] > 50 and seen["direct/solve", False] == 80


def test_phase_1_keeps_what_the_truth_confirms_and_phase_2_what_the_critic_approves(finished: RunDir) -> None:
    for p in payloads(finished, 1, "verify"):
        assert right(p, "text") and p["initial_verdict"] == right(p, "initial") and p["hinted"]
    reasons = finished.manifest(finished.stage(1, "verify")).rows_dropped
    assert reasons["wrong_verdict"] and set(reasons) <= {"wrong_verdict", "wrong_answer"}
    kept = payloads(finished, 2, "verify")
    assert all(
        p["approved"] and p["check"].endswith("Verdict: correct") and not p.get("hinted") for p in kept
    )
    assert {right(p, "text") for p in kept if p["answer"] is not None} == {True, False}, (
        "the critic errs, and nothing corrects it"
    )
    assert set(finished.manifest(finished.stage(2, "verify")).rows_dropped) == {
        "not_approved",
        "unparsable_verdict",
    }


def test_verdicts_and_the_filter_are_measured_every_round(finished: RunDir, selfloop: Any) -> None:
    manifest, critic = (finished.manifest(finished.stage(2, s)) for s in ("verify", "critique"))
    kept = [p for p in payloads(finished, 2, "verify") if p["answer"] is not None]
    before = [p for p in payloads(finished, 2, "filter") if p["answer"] is not None]
    good = sum(right(p, "text") for p in kept)
    assert manifest.extra["precision"] == good / len(kept) and manifest.extra["recall"] == good / sum(
        right(p, "text") for p in before
    )
    assert manifest.extra["initial_accuracy"] == sum(right(p, "initial") for p in before) / len(before)
    assert manifest.extra["truth_unknown"] > 0, "the model's own questions have no truth"
    judged = [p["approved"] for p in payloads(finished, 2, "critique") if p["approved"] is not None]
    assert critic.extra["base_rate"] == sum(judged) / len(judged) and 0.3 < critic.extra["base_rate"] < 0.95
    assert critic.extra["unparsable"] > 0
    card = Path(finished.dataset("sft", 2), "README.md").read_text()
    assert f"- Verify: {manifest.extra['note']}" in card and f"- Critique: {critic.extra['note']}" in card
    shown = selfloop("inspect", "--run", finished.root)
    assert shown.status == 0 and "round 2, verify: by the hidden ground truth of" in " ".join(
        shown.text.split()
    ), shown.text
    assert (
        "the critic approved "
        in selfloop("inspect", "--run", finished.root, "--round", "2", "--stage", "critique").text
    )
    facts = next(r for r in overview(finished)["rounds"] if r["round"] == 2)["stages"]["verify"]["facts"]
    assert facts["precision"] == finished.manifest(finished.stage(2, "verify")).extra["precision"]


def test_the_card_names_the_annotator_and_rows_their_kind(finished: RunDir) -> None:
    cards = [Path(finished.dataset("sft", r), "README.md").read_text() for r in ROUNDS]
    assert "Annotator: self_with_truth" in cards[0] and "deviation from the paper" in cards[0]
    assert "refined answers the model itself approved" in cards[1] and "Annotator" not in cards[1]
    first, second = (load_from_disk(finished.dataset("sft", r))["train"] for r in (1, 2))
    turns = Counter(len(p) for p in first["prompt"])
    assert set(turns) == {1, 3, 5} and turns[3] == turns[5] <= turns[1] and all(first["src_hinted"])
    assert {len(p) for p in second["prompt"]} == {1} and not any(second["src_hinted"])


def test_the_critic_learns_to_approve_no_more_than_its_share(finished: RunDir) -> None:
    rows = {row.id: row.payload for row in finished.rows(finished.stage(1, "publish"))}
    data = load_from_disk(finished.dataset("sft", 1))["train"]
    verdicts = Counter(
        rows[r["row_id"].removesuffix("-1")]["initial_verdict"] for r in data if len(r["prompt"]) == 3
    )
    right = sum(p["initial_verdict"] for p in rows.values())
    assert verdicts[True] == min(right, int(1.5 * verdicts[False])) and verdicts[False] == len(rows) - right
    [step] = [
        s for s in finished.manifest(finished.stage(1, "publish")).steps if s.name == "balance_verdicts"
    ]
    assert step.rows_replaced == right - verdicts[True] and step.rows_in == step.rows_out == len(rows)
    left_out = f"{step.rows_replaced} more that approve were left out"
    said = f"{verdicts[True]} approve, {verdicts[False]} reject; {left_out}"
    assert (
        f"Verdicts that train the critic: {said}" in Path(finished.dataset("sft", 1), "README.md").read_text()
    )


def test_new_questions_are_asked_and_every_reject_has_its_reason(finished: RunDir) -> None:
    assert finished.manifest(finished.stage(1, "propose")) is None
    manifest = finished.manifest(finished.stage(2, "propose"))
    manifest.check()
    assert [step.name for step in manifest.steps] == ["well_formed", "held_out", "new"]
    dropped = manifest.dropped_in_all()
    assert {
        "too_short": 5,
        "malformed_number": 5,
        "not_a_question": 5,
        "too_long": 5,
    }.items() <= dropped.items() and dropped["near_duplicate"] >= 5
    own = list(finished.rows(finished.stage(2, "propose")))
    known = [
        row.payload["question"]
        for which in ("train", "held_out")
        for row in finished.rows(finished.tasks(which))
    ]
    assert own and all(
        rouge_l(row.payload["question"].lower().split(), q.lower().split()) < 0.7
        for row in own
        for q in known
    )
    generated = {row.payload["task_id"] for row in finished.rows(finished.stage(2, "generate"))}
    assert {row.id for row in own} <= generated and len(generated) == 40 + len(own)
    made = [row.id for row in finished.rows(finished.stage(2, "publish")) if row.payload.get("proposed_by")]
    links = trace(finished, made[0])
    assert [link.stage for link in links if link.stage.startswith("tasks")] == ["tasks/train"] * 4, (
        "it leads back to the tasks it was made after"
    )
    made_by = [link.stage for link in links][4:]
    assert made_by[:5] == ["propose", "generate", "critique", "filter", "verify"] and set(made_by[5:]) <= {
        "pairs"
    }


def test_trace_shows_every_text_in_its_order(finished: RunDir, selfloop: Any) -> None:
    row = next(
        row for row in finished.rows(finished.stage(2, "publish")) if not row.payload["initial_verdict"]
    )
    shown = selfloop("trace", "--run", finished.root, row.id, "--full")
    assert shown.status == 0, shown.text
    p = row.payload
    texts = [p["question"], p["initial"], p["feedback"], p["text"], p["check"]]
    links = trace(finished, row.id, 2)
    below = next(link for link in links if link.stage == "critique").payload
    assert [below[k] for k in ("question", "initial", "feedback", "text", "check")] == texts
    flat = " ".join(shown.text.split())
    heading = flat.index("made by critique")
    places = [flat.index(" ".join(t.split()), heading) for t in texts[2:]]
    assert all(a < b for a, b in pairwise(places)), shown.text
    assert all(" ".join(t.split()) in flat for t in texts) and "published as" in flat


def test_pairs_are_rows_paired_with_themselves(finished: RunDir) -> None:
    rows = {row.id: row.payload for row in finished.rows(finished.stage(2, "verify"))}
    pairs = list(finished.rows(finished.stage(2, "pairs")))
    assert pairs
    for pair in pairs:
        [parent] = pair.parents
        assert (
            pair.payload["chosen"][0]["content"] == rows[parent]["text"]
            and pair.payload["rejected"][0]["content"] == rows[parent]["initial"]
        )
        assert rows[parent]["initial_verdict"] is False


def test_the_report_shows_critique_and_pairs(finished: RunDir) -> None:
    pairs = [(title, way) for title, way, _, _ in Parsed(render([finished])).rows() if way[-1][0] == "pairs"]
    assert len(pairs) == sum(finished.manifest(finished.stage(r, "pairs")).rows_out for r in ROUNDS) > 0
    for title, way in pairs:
        fields = way[-1][1]
        assert title[0] and title[0] in " ".join(fields["prompt"][-1]["content"].split())
        assert fields["chosen"] != fields["rejected"]
        assert {"feedback", "text"} <= dict(way)["critique"].keys()


def test_all_four_ways_to_answer_are_evaluated(finished: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(Path(finished.evaluation("base")).read_text())
    rows = payloads_of_evaluation(finished)
    assert {"greedy", "refined", "maj@3", "refined maj@3"} <= set(found) and found["n"] == len(rows) == 10
    for name in ("greedy", "refined"):
        assert found[name]["mean"] == pytest.approx(sum(r[name]["correct"] for r in rows) / 10)
    lost, won = (sum(r["greedy"]["correct"] - r["refined"]["correct"] == d for r in rows) for d in (1, -1))
    assert (found["refined"]["right_to_wrong"], found["refined"]["wrong_to_right"]) == (lost, won)
    assert all(len(r["refined_samples"]) == 3 for r in rows)
    [facts] = rounds_table(finished)
    assert facts["refined maj@3"] == found["refined maj@3"] and facts["refined"] == found["refined"]
    first, _, ways = " ".join(capsys.readouterr().out.split()).partition("other ways to answer")
    assert "refined maj@3" in ways and "refined" not in first, "so many ways have a table of their own"


def payloads_of_evaluation(run: RunDir) -> list[dict[str, Any]]:
    return [row.payload for row in run.rows(run.stage("base", "evaluate"))]
