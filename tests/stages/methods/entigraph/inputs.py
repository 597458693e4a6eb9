"""Files that a run of EntiGraph reads: documents, questions on them, and general text."""

import json
from pathlib import Path
from typing import Any


def write_inputs(folder: Path, extra: str = "") -> dict[str, Any]:
    """Write three documents, six questions on them, and general text.

    Returns the recipe's sections that name them.
    """
    (folder / "docs").mkdir(parents=True)
    rows = []
    for d in range(3):
        names = [f"{name}{d}" for name in ("Ada", "Loom", "Marseille", "Silver", "Winter")]
        (folder / "docs" / f"doc{d}.txt").write_text(
            f"Weavers {d}{extra}\n\nThings: {', '.join(names)}.\n\n"
            + " ".join(f"s{d}x{i}" for i in range(60))
            + ".\n"
        )
        rows += [
            {
                "question": f"What is {k} of Weavers {d}?",
                "options": ["red", "blue", "green", "gold"],
                "answer": "ABCD"[(d + k) % 4],
                "document": f"doc{d}",
            }
            for k in range(2)
        ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "general.jsonl").write_text(
        "".join(
            json.dumps({"text": f"General {i} " + " ".join(f"g{i}y{k}" for k in range(50))}) + "\n"
            for i in range(12)
        )
    )
    questions = {
        "source": "jsonl",
        "path": str(folder / "questions.jsonl"),
        "answer_type": "choice",
        "columns": {"options": "options", "document": "document"},
    }
    general = {
        "source": "jsonl",
        "path": str(folder / "general.jsonl"),
        "columns": {"question": "text", "answer": None},
    }
    return {
        "rounds": 1,
        "tasks": {"source": "documents", "path": str(folder / "docs"), "columns": {"answer": None}},
        "held_out": {"source": questions},
        "train": {
            "kind": "cpt",
            "max_steps": 3,
            "batch_size": 4,
            "max_length": 64,
            "cpus_per_worker": 1,
            "precision": "fp32",
            "save_steps": 2,
            "cpt": {"replay": general, "replay_rate": 0.25},
        },
        "evaluate": {"how": "loglikelihood", "bootstrap": 200},
    }
