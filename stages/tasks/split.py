"""The held-out split: the source's own, or by the hash of each id, so that new tasks move no old ones."""

import heapq

from pipeline.config import HeldOut
from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.rows import Row
from stages.steps.decontaminate import Asked


def split_held_out(rows: list[Row], held_out: HeldOut, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (train, held out), both in the order of `rows`.

    If the source sets payload["split"], its test tasks are held out, its train tasks trained on, and
    others ignored. Otherwise the `held_out.count` tasks with the smallest hashes are held out, or without
    a count those whose hash is below `held_out.share`. A task that reads the same as a held-out one is in
    neither list. Raises DataError if a list would be empty.
    """
    own = any("split" in row.payload for row in rows)
    if own:
        held = [row for row in rows if row.payload.get("split") == "test"]
        rest = [row for row in rows if row.payload.get("split") == "train"]
    else:
        place = {row.id: unit_interval(seed, "held_out", row.id) for row in rows}
        if held_out.count is None:
            chosen = {row_id for row_id, at in place.items() if at < held_out.share}
            asked = f"held_out.share {held_out.share}"
        else:
            chosen = set(heapq.nsmallest(held_out.count, place, key=lambda row_id: (place[row_id], row_id)))
            asked = f"held_out.count {held_out.count}"
        held = [row for row in rows if row.id in chosen]
        rest = [row for row in rows if row.id not in chosen]
    seen = {same_question(row) for row in held}
    train = [row for row in rest if same_question(row) not in seen]
    if own and (not train or not held or held_out.count not in (None, len(held))):
        raise DataError(
            f"the source sets its own split, in which {len(held)} of {len(rows)} tasks are held out and "
            f"{len(train)} trained on; expected at least one of each, and held_out.count unset or equal. The "
            "sizes are set in tasks.options (train, test)."
        )
    if not train or not held:
        twins = len(rest) - len(train)
        same = f" ({twins} read the same as a held-out one)" if twins else ""
        raise DataError(
            f"{asked} of {len(rows)} tasks leaves {len(train)} to train on and {len(held)} held out{same}; "
            "expected at least one of each. Provide more tasks, or change held_out.count or held_out.share."
        )
    return train, held


def same_question(row: Row) -> tuple[str, ...]:
    """Return what tasks that read the same share: question, options and earlier turns, without case and
    spacing."""
    asked = Asked.of(row.payload)
    return tuple(" ".join(text.casefold().split()) for text in (asked.question, *asked.beside))
