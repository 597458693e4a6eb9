"""What publishing leaves out of a round because of earlier ones."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline import fingerprint
from pipeline.config import build_recipe
from pipeline.round import Round
from pipeline.rows import Kept, Row
from stages.rounds.publishing import publish_round
from tests.jobs.conftest import Built
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
LONG = " ".join(f"word{i}" for i in range(60))
TEXTS = {
    "a": "2 AND 2 make 4 \nAnswer: 4",  # what round 1 has, in other letters
    "b": f"{LONG}\nAnswer: 4",
    "c": f"{LONG} well\nAnswer: 4",
    "d": "Two and two are four.\nAnswer: 4",
}


@pytest.mark.parametrize(
    ("policy", "near", "kept"),
    [("all", {}, "bd"), ("replace", {}, "abd"), ("all", {"threshold": 0.99}, "bcd"), ("all", None, "abcd")],
)
def test_near_duplicates_of_rounds_that_are_trained_on_together(
    tmp_path: Path, tiny_model: Path, policy: str, near: Any, kept: str
) -> None:
    built = Built(tmp_path / "run")
    task = built.tasks[0]
    rows = [Row(i, {**task.payload, "text": text, "model": "m"}, [task.id]) for i, text in TEXTS.items()]
    built._write("verify", built.run.stage(2, "verify"), [(row, Kept([row])) for row in rows], round_=2)
    sections = {"model": {"base": str(tiny_model)}, "accumulate": {"policy": policy}}
    method = {"name": "direct", "keep_per_question": 9}
    given = built.run.recipe().model_dump(mode="json")
    recipe = build_recipe({**given, **sections, "method": method, "filters": {"near_duplicates": near}})
    round_ = Round(built.run, 2, recipe)
    manifest = asyncio.run(publish_round(round_))
    assert "".join(row.id for row in round_.rows("publish")) == kept
    dropped = {d["id"]: d["detail"] for d in built.run.rejects(round_.folder("publish"), "dropped")}
    first = next(Round(built.run, 1, recipe).rows("publish")).id
    assert dropped.get("a", "kept") in ("kept", f"of row {first} of round 1, estimated similarity 1.00")
    assert manifest.dropped_in_all() == ({"near_duplicate": 4 - len(kept)} if len(kept) < 4 else {})
    config = fingerprint.stored(round_.folder("publish"))["config"]
    assert ("near_duplicates" in config) == (near is not None) and "near_duplicates" not in config["filters"]
