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


def from_files(folder: Path, tasks: list[dict], held_out: list[dict], **more: Any) -> RunDir:
    for name, rows in (("tasks", tasks), ("held_out", held_out)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"source": "jsonl", "path": str(folder / "tasks.jsonl")}
    asked = source | {"path": str(folder / "held_out.jsonl")}
    run = RunDir(folder / "run")
    freeze(run, tiny_recipe(tasks=source, held_out={"source": asked}, **more))
    return run


def test_held_out_questions_among_the_tasks_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(6)]
    again = [
        {"question": "what is 2 + 1", "answer": 3},
        tasks[4],
        {"question": "What is 9 + 9?", "answer": 18},
    ]
    run = from_files(tmp_path, tasks, again)
    assert len(texts(run, "train")) == 4 and len(texts(run, "held_out")) == 3
    manifest = run.manifest(run.path("tasks"))
    assert manifest.rows_dropped == {"equal_to_held_out": 2}
    said = " ".join(capsys.readouterr().err.split())
    assert "held_out.source: 2 tasks read the same as a held-out question and are left out, such as" in said
    assert "tasks.jsonl:3: What is 2 + 1?" in said
    with pytest.raises(DataError, match=r"held_out\.source contains every task"):
        from_files(tmp_path / "run", tasks, tasks)


def test_tasks_that_publishing_would_drop_are_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = "a farmer from the north sells nine baskets of red apples to each of the"
    tasks = [{"question": f"Sum {i}: what is {i} + 1?", "answer": i + 1} for i in range(4)]
    tasks += [{"question": f"Once {story} {n} inns. How many?", "answer": 9 * n} for n in (3, 4)]
    held_out = [{"question": f"Today {story} seven markets. How many are sold?", "answer": 63}]
    run = from_files(tmp_path, tasks, held_out)
    assert len(texts(run, "train")) == 4
    assert run.manifest(run.path("tasks")).rows_dropped == {"leaks_held_out": 2}
    assert "leaks_held_out 2" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"each of the 2 tasks.*held_out\.ngram"):
        from_files(tmp_path / "run", tasks[4:], held_out)


def test_how_many_demonstrations_can_be_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(6)]
    (path := tmp_path / "d.jsonl").write_text(
        '{"question": "1+1?", "s": "It is 2.\\n#### 2"}\n{"question": "1+2?", "s": "Answer: 3"}\n'
    )
    source = {"source": "jsonl", "path": str(path), "columns": {"answer": None, "solution": "s"}}
    from_files(tmp_path, tasks, [{"question": "9?", "answer": 9}], demonstrations=source)
    said = " ".join(capsys.readouterr().err.split())
    assert f"{path}: 1 of 2 have an answer that can be read. The others, such as {path}:1, teach" in said
    source |= {"columns": {"answer": "s", "solution": "s"}, "answer_mark": "#### ", "on_bad_row": "skip"}
    (other := tmp_path / "other").mkdir()
    from_files(other, tasks, [{"question": "9?", "answer": 9}], demonstrations=source)
    said = " ".join(capsys.readouterr().err.split())
    assert f"{path}: 1 of 1 have an answer that can be read" in said and "The others" not in said


def test_general_text_that_gives_a_question_away_is_left_out_and_recorded(tmp_path: Path) -> None:
    run = frozen(tmp_path, [f"general {i}" for i in range(30)] + [f"So it was. {QUESTION} It was this one."])
    assert not any(QUESTION in text for text in texts(run, "replay") + texts(run, "replay_held_out"))
    [rejected] = run.rejects(run.tasks("rejected"), "failed")
    assert "g.jsonl:31: contains a held-out question: which of the seven" in rejected["detail"]


def test_some_general_text_is_held_out_but_not_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"replay_held_out 0\.001 of 3 general texts holds out 0"):
        frozen(tmp_path, ["a", "b", "c"], replay_held_out=0.001)
