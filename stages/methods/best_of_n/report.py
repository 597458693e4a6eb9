"""rewards.txt in a run directory: for each round, a table of all rewards against truth and length."""

from collections.abc import Mapping
from typing import Any

from pipeline.rundir import RunDir
from pipeline.statistics import shown
from pipeline.store import files

TEXT = "rewards.txt"
_COLUMNS = {
    "chosen": ("right when chosen", ".1%"),
    "gain": ("against random", "+.1%"),
    "auc": ("AUC", ".3f"),
    "auc_at_equal_length": ("AUC at equal length", ".3f"),
    "longer": ("tokens against random", "+.1f"),
    "length_correlation": ("rank correlation with length", "+.2f"),
}
_NOTE = """Chosen: the answer with the highest reward of its question. AUC: how often a right answer has a
higher reward than a wrong one to the same question; at equal length: where the tokens of both differ by at
most a tenth. Intervals are 95%, over questions."""


def write(run: RunDir) -> None:
    """Write the report, replacing an earlier one; none as long as no round has verified its answers."""
    tables = [
        _table(round_, manifest.extra["agreement"])
        for round_ in run.rounds()
        if (manifest := run.manifest(run.stage(round_, "verify"))) and "agreement" in manifest.extra
    ]
    if tables:
        files.write_bytes(run.path(TEXT), ("\n".join([*tables, _NOTE]) + "\n").encode())


def _table(round_: int | str, found: Mapping[str, Any]) -> str:
    title = (
        f"round {round_}: {found['answers']} answers to {found['questions']} questions (truth known for "
        f"{found['known']}), {found['tokens']:g} tokens each; chosen by {found['chosen_by']}"
    )
    rows = [["reward", *(name for name, _ in _COLUMNS.values())]]
    rows.append(["random choice", shown(found["mean"])])
    for name, measured in found["rewards"].items():
        rows.append([name, *(shown(measured[key], form) for key, (_, form) in _COLUMNS.items())])
    rows.append(["best possible", shown(found["best_possible"])])
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{widths[i]}}" for i, cell in enumerate(row)).rstrip() for row in rows]
    return "\n".join([title, *lines, ""])
