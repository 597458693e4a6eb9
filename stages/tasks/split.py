"""The held-out split: the source's own if it has one, else by the hash of each task's id, so that new tasks do not move old ones across."""

import heapq

from pipeline.config import HeldOut
from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.rows import Row


def split_held_out(rows: list[Row], held_out: HeldOut, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (train, held out), both in the order of `rows`.

    A source that says itself which tasks are for testing (payload["split"]) is taken at its word: all of split test are held out, all
    of split train are learnt from, and nothing else is. Otherwise, with `held_out.count` the tasks with the smallest hashes are held out, else those whose hash is below `held_out.share`. A task whose
    question (and options) reads the same as a held-out one is in neither list. Raises DataError when a side would be empty.
    """
    if any("split" in row.payload for row in rows):
        return _own_split(rows, held_out)
    place = {row.id: unit_interval(seed, "held_out", row.id) for row in rows}
    if held_out.count is None:
        chosen = {row_id for row_id, at in place.items() if at < held_out.share}
        asked = f"held_out.share {held_out.share}"
    else:
        chosen = set(heapq.nsmallest(held_out.count, place, key=lambda row_id: (place[row_id], row_id)))
        asked = f"held_out.count {held_out.count}"
    held = [row for row in rows if row.id in chosen]
    seen = {same_question(row) for row in held}
    train = [row for row in rows if row.id not in chosen and same_question(row) not in seen]
    if not train or not held:
        twins = len(rows) - len(held) - len(train)
        same = f" ({twins} read the same as a held-out one)" if twins else ""
        raise DataError(
            f"{asked} of {len(rows)} tasks leaves {len(train)} to learn from and {len(held)} held out{same}; "
            "expected at least one of each. Give more tasks, or change held_out.count or held_out.share."
        )
    return train, held


def _own_split(rows: list[Row], held_out: HeldOut) -> tuple[list[Row], list[Row]]:
    held = [row for row in rows if row.payload.get("split") == "test"]
    seen = {same_question(row) for row in held}
    train = [row for row in rows if row.payload.get("split") == "train" and same_question(row) not in seen]
    if not train or not held or held_out.count not in (None, len(held)):
        raise DataError(
            f"the source says itself which tasks are held out: {len(held)} of {len(rows)}, and {len(train)} to learn from; expected at least one "
            "of each, and held_out.count left out or the same. How many of each split there are is said in tasks.options (train, test)."
        )
    return train, held


def same_question(row: Row) -> tuple[str, ...]:
    """Return what two tasks have in common when they read the same: question and options, without case and spacing."""
    texts = [row.payload["question"], *(row.payload.get("options") or [])]
    return tuple(" ".join(text.casefold().split()) for text in texts)
