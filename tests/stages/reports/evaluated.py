"""Runs whose evaluations are written directly: what every model answered to each question."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.rows import Failed, Kept, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.statistics import proportion
from pipeline.store import files
from pipeline.store.manifest import Manifest, PartEntry
from pipeline.store.parts import PartWriter
from tests.conftest import tiny_recipe


def evaluated(
    root: Path, answers: Mapping[RoundKey, Mapping[str, bool | None]], document: bool = False, **recipe: Any
) -> RunDir:
    """Return a run in which the model of each round answered the questions by id.

    An answer is right, wrong, or missing. With `document`, the first letter of a question's id is its
    document.
    """
    run = RunDir(root)
    run.freeze(tiny_recipe(**recipe))
    for number, right in answers.items():
        _evaluation(run, number, right, document)
    return run


def _evaluation(run: RunDir, number: RoundKey, right: Mapping[str, bool | None], document: bool) -> None:
    folder = run.stage(number, "evaluate")
    writer = PartWriter(folder, folder, "00000")
    for name, correct in right.items():
        task = {"task_id": name, "question": f"What is {name}?", "answer": f"the {name}"}
        row = Row(name, task | ({"document": name[0]} if document else {}))
        if correct is None:
            writer.add(row, Failed("EngineError", "refused", ""))
        else:
            greedy = {"correct": correct, "text": f"It is {'the' if correct else 'no'} {name}"}
            writer.add(row, Kept([row.child("evaluate", 0, greedy=greedy)]))
    writer.flush()
    done = [correct for correct in right.values() if correct is not None]
    entries = [
        PartEntry(path=path.removeprefix(f"{run.root}/"), rows=len(done), sha256="0")
        for path in files.glob(folder, "part-*.arrow")
    ]
    Manifest(
        stage="evaluate",
        round=number if isinstance(number, int) else -1,
        method="direct",
        fingerprint="f",
        rows_in=len(right),
        rows_done=len(done),
        rows_failed={"EngineError": len(right) - len(done)} if len(done) < len(right) else {},
        rows_out=len(done),
        parts=entries,
    ).write(folder)
    facts = {
        "n": len(right),
        "seconds": 1.0,
        "greedy": proportion([float(c or 0) for c in right.values()])._asdict(),
    }
    files.write_json(run.evaluation(number), {"round": number, **facts})
