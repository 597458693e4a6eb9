"""Questions from other sources than the tasks, and general text for replay: what is frozen or refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.rundir import RunDir
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe

QUESTION = (
    "Which of the seven old towns on the northern shore of the lake was burnt down twice in the same year?"
)


def frozen(folder: Path, general: list[str], held_out: dict[str, Any] | None = None, **cpt: Any) -> RunDir:
    (folder / "docs").mkdir(exist_ok=True)
    for i in range(5):
        (folder / "docs" / f"{i}.txt").write_text(f"Title {i}\n\nText {i}.")
    rows = [
        {"question": QUESTION, "answer": "A", "options": ["x", "y"]},
        *({"question": f"Which is {i}?", "answer": "B", "options": ["x", "y"]} for i in range(9)),
    ]
    (folder / "q.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "g.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in general))
    source = {
        "source": "jsonl",
        "path": str(folder / "q.jsonl"),
        "answer_type": "choice",
        "columns": {"options": "options"},
    }
    replay = {
        "source": "jsonl",
        "path": str(folder / "g.jsonl"),
        "columns": {"question": "text", "answer": None},
    }
    recipe = tiny_recipe(
        tasks={"source": "documents", "path": str(folder / "docs"), "columns": {"answer": None}},
        held_out={"source": source, **(held_out or {})},
        method={"name": "entigraph"},
        train={"kind": "cpt", "cpt": {"replay": replay, **cpt}},
    )
    run = RunDir(folder / "run")
    freeze(run, recipe)
    return run


def texts(run: RunDir, which: str) -> list[str]:
    return [row.payload["question"] for row in run.rows(run.tasks(which))]


def test_every_document_is_learnt_from_and_every_question_asked(tmp_path: Path) -> None:
    run = frozen(tmp_path, [f"general {i}" for i in range(30)])
    assert len(texts(run, "train")) == 5 and len(texts(run, "held_out")) == 10
    manifest = run.manifest(run.path("tasks"))
    assert manifest.rows_in == manifest.rows_done == 15
    one, other = set(texts(run, "replay")), set(texts(run, "replay_held_out"))
    assert len(one) + len(other) == 30 and not one & other and other


def test_a_count_is_a_draw_of_questions(tmp_path: Path) -> None:
    assert len(texts(frozen(tmp_path, [f"general {i}" for i in range(30)], {"count": 4}), "held_out")) == 4


def test_general_text_that_gives_a_question_away_is_left_out_and_recorded(tmp_path: Path) -> None:
    run = frozen(tmp_path, [f"general {i}" for i in range(30)] + [f"So it was. {QUESTION} It was this one."])
    assert not any(QUESTION in text for text in texts(run, "replay") + texts(run, "replay_held_out"))
    [rejected] = run.rejects(run.tasks("rejected"), "failed")
    assert "g.jsonl:31: contains a held-out question: which of the seven" in rejected["detail"]


def test_some_general_text_is_held_out_but_not_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"replay_held_out 0\.001 of 3 general texts holds out 0"):
        frozen(tmp_path, ["a", "b", "c"], replay_held_out=0.001)
