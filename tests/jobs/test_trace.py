"""trace: from any row back to its task and on to the published example, with every request and round."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import SelfloopError
from pipeline.lineage import trace
from pipeline.rows import Dropped, Kept, Row
from pipeline.store.parts import PartWriter
from tests.jobs.conftest import HOSTILE, Built, assert_safe


def chain(links):
    return [(link.stage, link.round) for link in links]


def fates(link, round_=1):
    return [(f.stage, f.outcome, f.reason or len(f.children)) for f in link.fates if f.round == round_]


def test_a_verified_row_goes_back_to_its_task_and_on_to_its_examples(built: Built):
    asked = built.child("t1", 0, "filter", "verify")
    links = trace(built.run, asked)
    assert chain(links) == [("tasks/train", None), ("generate", 1), ("filter", 1), ("verify", 1)]
    assert [link.asked for link in links] == [False, False, False, True]
    assert all(b.parents == [a.id] for a, b in pairwise(links))
    task, generated, filtered, verified = links
    assert (
        fates(task) == [("generate", "kept", 2)]
        and fates(generated) == [("filter", "kept", 1)]
        and fates(filtered) == [("verify", "kept", 1)]
    )
    assert fates(verified) == [("publish", "kept", 0)]
    [request] = task.fates[0].requests
    assert (
        request["messages"][0]["content"] == "Question t1?"
        and request["prefill"] == "Let me think"
        and request["sampling"]["temperature"] == 0.7
    )
    assert request["model"] == "tiny@0123456789ab" and [c["text"] for c in request["completions"]] == [
        "2 and 2 make 4.\nAnswer: 4",
        HOSTILE,
    ]
    assert verified.payload["verdict"]["correct"]
    assert sorted(e.row_id for e in verified.published) == [asked, f"{asked}-1"]
    assert {e.folder for e in verified.published} == {built.run.dataset("sft", 1)}
    assert verified.published[0].completion == [
        {"role": "assistant", "content": "2 and 2 make 4.\nAnswer: 4"}
    ]


def test_dropped_and_failed_rows(built: Built):
    dropped = trace(built.run, built.child("t1", 1, "filter"))
    assert chain(dropped) == [("tasks/train", None), ("generate", 1), ("filter", 1)]
    assert (
        fates(dropped[-1]) == [("verify", "dropped", "wrong_answer")] and dropped[-1].fates[0].raw == HOSTILE
    )
    empty = trace(built.run, built.child("t2", 1))
    assert fates(empty[-1]) == [("filter", "dropped", "empty_answer")]
    failed = trace(built.run, built.child("t2", 0, "filter"))
    assert (
        fates(failed[-1]) == [("verify", "failed", "ValueError")] and failed[-1].fates[0].raw == "raw reply"
    )


def test_a_row_that_a_step_dropped(built: Built):
    [*_, last] = trace(built.run, built.child("t3", 0, "filter", "verify"))
    assert (last.stage, fates(last), last.fates[0].step) == (
        "verify",
        [("verify", "dropped", "minority")],
        "majority_vote",
    )


def test_a_task_shows_everything_that_came_of_it_in_every_round(built: Built):
    links = trace(built.run, built.tasks[0].id)
    assert [link.round for link in links].count(2) == 2
    assert fates(links[0], 1) == [("generate", "kept", 2)] and fates(links[0], 2) == [("generate", "kept", 2)]
    assert {(link.id, link.round) for link in links} >= {
        (built.child("t1", 1, "filter"), 1),
        (built.child("t1", 0), 2),
    }
    assert {link.round for link in trace(built.run, built.tasks[0].id, 1)} == {None, 1}


def test_what_is_asked_but_not_finished_is_under_way(built: Built):
    [task, *_] = trace(built.run, built.tasks[1].id)
    assert fates(task, 2) == [("generate", "under way", 0)]
    assert task.fates[-1].requests[0]["completions"][0]["text"] == "asked, but not finished"
    [task, *_] = trace(built.run, built.tasks[2].id)  # its request's line is torn: it never finished
    assert fates(task, 2) == []


def test_the_same_id_in_two_rounds(built: Built):
    both = built.child("t1", 0)
    assert {link.round for link in trace(built.run, both) if link.asked} == {1, 2}
    assert [(link.stage, link.round) for link in trace(built.run, both, 2)] == [
        ("tasks/train", None),
        ("generate", 2),
    ]


def test_ids_may_be_cut_short_or_those_of_examples(built: Built):
    whole = built.child("t1", 0, "filter", "verify")
    assert trace(built.run, whole[:8])[-1].id == whole
    assert trace(built.run, f"{whole}-1")[-1].id == whole
    with pytest.raises(SelfloopError, match="at least its first 6 characters"):
        trace(built.run, whole[:4])
    assert fates(trace(built.run, "bad-line-of-the-file")[0], 0) == [("tasks/rejected", "failed", "bad_row")]


def test_an_ambiguous_beginning(built: Built, run):
    out = PartWriter(run.tasks("train"), run.tasks("train"), "00000")
    for i in range(7):
        out.add(Row(f"abcdef{i}", {}), Kept([Row(f"abcdef{i}", {})]))
    out.flush()
    Path(run.root, "run.yaml").write_text("")
    with pytest.raises(
        SelfloopError, match=r"begins the ids of 7 rows .*: abcdef0, abcdef1, .* and 2 more\. Give more"
    ):
        trace(run, "abcdef")


def test_an_unknown_id_says_where_was_looked(built: Built, selfloop, tmp_path: Path):
    found = selfloop("trace", "--run", built.run.root, "nosuchrow")
    assert found.status == 2
    assert (
        "no row 'nosuchrow'" in found.text
        and "round 1 (generate, filter, verify, publish); round 2 (generate)" in found.text
    )
    assert "run.yaml is missing" in selfloop("trace", "--run", tmp_path, "nosuchrow").text


def test_rows_without_stored_parents_and_leftovers_of_a_kill(built: Built, run):
    """A row without stored parents still leads to its task; rejects without their part never happened."""
    task = Row("the-only-task", {"task_id": "the-only-task"})
    child = task.child("generate", 0).child("generate", "turn", text="x")
    for folder, outcome in ((run.tasks("train"), Kept([task])), (run.stage(1, "generate"), Kept([child]))):
        out = PartWriter(folder, folder, "00000")
        out.add(task, outcome)
        out.flush()
    killed = PartWriter(run.stage(1, "filter"), run.stage(1, "filter"), "00001")
    killed.add(child, Dropped("never", ""))
    killed.flush()
    Path(run.stage(1, "filter"), "part-00001-00000.arrow").unlink()
    Path(run.root, "run.yaml").write_text("")
    links = trace(run, child.id)
    assert [link.id for link in links] == [task.id, child.id]
    assert links[1].fates == []


def test_trace_is_shown_safely_and_as_json(built: Built, selfloop):
    asked = built.child("t1", 0, "filter", "verify")
    shown = selfloop("trace", "--run", built.run.root, asked)
    assert shown.status == 0, shown.text
    assert_safe(shown.text)
    for text in (
        "Question t1?",
        "asked tiny@0123456789ab direct/solve",
        "n 2, temperature 0.7, max_tokens 64; 5 prompt + 10 completion tokens, 0.25 s",
        "prefill:    Let me think",
        "reply 2:    \\x1b[31mred",
        "[bold]not bold",
        "<- asked for",
        f"published as {asked}-1",
        "right, extracted '4'",
    ):
        assert text in shown.text, text
    at = [shown.text.index(f"{link.id}  ") for link in trace(built.run, asked)]
    assert at == sorted(at)
    found = selfloop("trace", "--run", built.run.root, asked, "--json")
    assert_safe(found.text)
    facts = json.loads(found.text)
    assert [link["id"] for link in facts["links"]] == [link.id for link in trace(built.run, asked)]
    assert facts["links"][0]["fates"][0]["requests"][0]["completions"][1]["text"] == HOSTILE
    dropped = selfloop("trace", "--run", built.run.root, built.child("t1", 1, "filter"))
    assert (
        "verify, round 1: dropped as wrong_answer" in dropped.text and "[red]expected[/red]" in dropped.text
    )
    assert_safe(dropped.text)
