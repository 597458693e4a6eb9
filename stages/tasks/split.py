"""The held-out split: the source's own, or by the hash of each id, so that new tasks move no old ones."""

import numpy as np

from pipeline.config import HeldOut
from pipeline.errors import DataError
from pipeline.many_ids import in_order, unit_intervals
from pipeline.rows import Row
from pipeline.store.spool import Rows
from stages.steps.decontaminate import Asked

_OWN = {None: 0, "train": 1, "test": 2}  # payload["split"]; others are 3


def split_held_out(rows: Rows, held_out: HeldOut, seed: int) -> tuple[Rows, Rows]:
    """Return (train, held out), both in the order of `rows`.

    If the source sets payload["split"], its test tasks are held out, its train tasks trained on, and
    others ignored. Otherwise the `held_out.count` tasks with the smallest hashes are held out, or without
    a count those whose hash is below `held_out.share`. A task that reads the same as a held-out one is in
    neither list. Raises DataError if a list would be empty.
    """
    split = np.fromiter((_OWN.get(row.payload.get("split"), 3) for row in rows), np.int8, len(rows))
    own = bool(split.any())
    asked = f"held_out.share {held_out.share}"
    if own:
        held, rest = rows.at(split == _OWN["test"]), rows.at(split == _OWN["train"])
    else:
        place = unit_intervals(rows.ids(), seed, "held_out")
        chosen = place < held_out.share
        if held_out.count is not None:
            asked = f"held_out.count {held_out.count}"
            chosen[:] = False
            chosen[in_order(rows.ids(), place)[: held_out.count]] = True
        held, rest = rows.at(chosen), rows.at(~chosen)
    seen = {same_question(row) for row in held}
    train = rest.where(lambda row: same_question(row) not in seen)
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
