"""Runs whose guidelines and structures give the answer away: what is dropped, and what the card says."""

import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.rundir import RunDir
from tests.stages.methods.regenesis.rounds import asked, card, dropped, make, payloads, recipe_in, write
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]


@pytest.fixture
def own(tmp_path: Path) -> str:
    """Five guidelines of the user's own."""
    return write(
        tmp_path / "own.jsonl",
        [{"index": i, "type": "own", "text": f"Do as kind {i} does."} for i in range(5)],
    )


async def test_chains_that_gave_the_answer_away_are_dropped_and_counted(
    tmp_path: Path, own: str, tiny_model: Path, in_process: None
) -> None:
    run = RunDir(tmp_path / "run")
    recipe = recipe_in(tmp_path, tiny_model, "leaky", method={"guidelines": own, "raw_per_question": None})
    await make(run, recipe, publish=True)
    manifest = run.manifest(run.stage(1, "critique"))
    assert manifest.rows_dropped == {
        "answer_leak_in_guideline": 39,
        "answer_leak_in_structure": 39,
        "empty_guideline": 39,
        "empty_structure": 39,
    }
    assert {(reason, p["chain"]) for reason, p in dropped(run, "critique")} == {
        ("answer_leak_in_guideline", "raw:1"),
        ("answer_leak_in_structure", "raw:2"),
        ("empty_guideline", "raw:3"),
        ("empty_structure", "raw:4"),
    }
    assert {p["chain"] for p in payloads(run, "verify")} == {"raw:0"}
    assert Counter(r["step"] for r in asked(run)) == {
        "regenesis/adapt": 5 * 39,
        "regenesis/structure": 4 * 39,
        "regenesis/execute": 3 * 39,
    }
    leaks = [r for r in run.rejects(run.stage(1, "critique"), "dropped") if "leak" in r["reason"]]
    assert all(re.match(r"(announced|contained): '\d+'", r["detail"]) and r["raw"] for r in leaks)
    assert "Check that guidelines and structures do not contain the answer: on" in card(run)
    frozen = run.recipe().method["guidelines"]
    Path(own).unlink()  # what the run was started with is in the run
    assert (
        run.recipe().method["guidelines"] == frozen
        and [g["text"] for g in frozen.values()][3] == "Do as kind 3 does."
    )


async def test_without_ground_truth_the_check_is_off_and_the_card_says_so(
    tmp_path: Path, own: str, tiny_model: Path, in_process: None
) -> None:
    """By majority vote. The vote does not look at a truth that is there, so the check must not either."""
    run = RunDir(tmp_path / "run")
    recipe = recipe_in(
        tmp_path,
        tiny_model,
        "leaky",
        method={"guidelines": own, "raw_per_question": None, "keep_per_question": 5},
        verifier="majority_vote",
    )
    await make(run, recipe, publish=True)
    assert run.manifest(run.stage(1, "critique")).rows_dropped == {
        "empty_guideline": 39,
        "empty_structure": 39,
    }
    rows = run.manifest(run.stage(1, "publish")).rows_out
    assert {p["leak_check"] for p in payloads(run, "critique")} == {"off"} and rows > 0
    assert (
        f"do not contain the answer: off for {rows} of {rows}: no ground truth, or majority_vote may not "
        "see it" in card(run)
    )
