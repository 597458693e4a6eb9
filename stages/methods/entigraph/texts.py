"""Small operations on documents and the texts written from them."""

import logging
from collections.abc import Callable, Iterable, Iterator

from pipeline.ids import unit_interval
from pipeline.rows import Dropped, Row

logger = logging.getLogger(__name__)


def title_of(document: str) -> str:
    """Return a document's title: its first line."""
    return document.strip().split("\n", 1)[0].strip()


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence, "" without one."""
    if text[-1:] in tuple(".!?"):
        return text
    return text[: max(text.rfind(mark) for mark in (". ", "! ", "? ", ".\n", "!\n", "?\n")) + 1].rstrip()


def cap_tokens(
    budget: int, seed: int, tokens: Callable[[str], int], rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    """Keep rows in seeded order while they fit into `budget` tokens; drop the others as over_budget."""
    sizes = {row.id: tokens(row.payload["text"]) for row in rows()}
    kept, used = set(), 0
    for row_id in sorted(sizes, key=lambda i: (unit_interval(seed, "budget", i), i)):
        if used + sizes[row_id] > budget:
            break
        kept.add(row_id)
        used += sizes[row_id]
    else:
        logger.warning(
            "all %d texts together have %d tokens and do not exceed method.token_budget, %d: an arm that "
            "does trains on more",
            len(kept),
            used,
            budget,
        )
    for row in rows():
        over = Dropped("over_budget", f"{used} of {budget} tokens are used", row.payload["text"])
        yield row, None if row.id in kept else over
