"""How many texts name the answers of closed-book questions."""

from pathlib import Path

import datasets
import pytest

from pipeline.rows import Kept, Row
from pipeline.rundir import RunDir
from pipeline.store import files
from pipeline.store.manifest import Manifest, PartEntry
from pipeline.store.parts import PartWriter
from stages.reports.coverage import Covered, coverage, sentence
from tests.conftest import tiny_recipe

TEXTS = (
    ["Its capital is KAMTITH.", "Kamtith lies on a river.", "Corn grows there."],
    ["From Kamtith, south."],
)


def asked(run: RunDir, questions: dict[str, tuple[list[str] | None, str, bool]]) -> None:
    """Evaluate round 2 on questions: their options, answer, and whether the model is right."""
    folder = run.stage(2, "evaluate")
    writer = PartWriter(folder, folder, "00000")
    for name, (options, answer, correct) in questions.items():
        row = Row(name, {"task_id": name, "question": name, "options": options, "answer": answer})
        writer.add(row, Kept([row.child("evaluate", 2, greedy={"correct": correct, "text": "B"})]))
    writer.flush()
    parts = [
        PartEntry(path=path.removeprefix(f"{run.root}/"), rows=len(questions), sha256="0")
        for path in files.glob(folder, "part-*.arrow")
    ]
    Manifest(
        stage="evaluate", round=2, method="entigraph", fingerprint="f", rows_in=len(questions),
        rows_done=len(questions), rows_out=len(questions), parts=parts,
    ).write(folder)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "run")
    made.freeze(tiny_recipe())
    for number, texts in enumerate(TEXTS, 1):
        train = datasets.Dataset.from_dict({"text": texts, "row_id": list(map(str, range(len(texts))))})
        datasets.DatasetDict({"train": train}).save_to_disk(made.dataset("cpt", number))
    return made


def test_answers_are_counted_in_the_texts_of_all_rounds(run: RunDir) -> None:
    asked(
        run,
        {
            "capital": (["Oslo", "Kamtith"], "B", True),
            "crops": (["corn", "rice"], "corn", False),
            "anthem": (["Hymn", "Song"], "A", False),
            "symbol": (["lion", "ibis"], "B", True),
        },
    )
    found = coverage(run, 2)
    assert found == [Covered("in none", 2, 1), Covered("in one", 1, 0), Covered("in 2 or 3", 1, 1)]
    assert sentence(found) == (
        "right answers named by the texts: in none 2 (50% right), in one 1 (0% right), "
        "in 2 or 3 1 (100% right)"
    )


def test_questions_without_options_say_nothing(run: RunDir) -> None:
    asked(run, {"capital": (None, "Kamtith", True)})
    assert coverage(run, 2) == []
