"""Small operations on documents and the texts written from them."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator

from pipeline.ids import unit_interval
from pipeline.rows import Dropped, Row
from stages.methods.entigraph import entities
from stages.tasks.documents import TITLE_WORDS

SHORT_WORD = 3  # letters

_HEADING = re.compile(r"[ \t]*(?:#|(?:\d+[.)][ \t]*)?(\*\*|__)[^*_\n]+\1[ \t]*:?[ \t]*$)")
_UNDERLINE = re.compile(r"[ \t]*(?:={3,}|-{3,})[ \t]*$")

logger = logging.getLogger(__name__)


def title_of(document: str) -> str:
    """Return a document's title: its first line, or the beginning of a first line that is a paragraph."""
    return " ".join(document.strip().split("\n", 1)[0].split(" ")[:TITLE_WORDS]).strip()


def unnamed(text: str, title: str, names: Iterable[str]) -> list[str]:
    """Return what a text does not name, of its entities and its document; a document is named by half of the
    longer words of its title.
    """
    words = [word for word in title.split() if len(word) > SHORT_WORD] or [title]
    named = sum(entities.occurrences(word, text) > 0 for word in words)
    missing = [name for name in names if not entities.occurrences(name, text)]
    return missing if 2 * named >= len(words) else [title, *missing]


def sections(text: str) -> int:
    """Count the sections of a text: headings with something below them, in any form (marked with #, bold,
    underlined), and a beginning without a heading that is no shorter than one of them.
    """
    parts, before = [0], ""
    for line in text.splitlines():
        if _HEADING.match(line):
            parts.append(0)
        elif _UNDERLINE.match(line):
            if before.strip():
                parts[-1] -= len(before.split())
                parts.append(0)
        else:
            parts[-1] += len(line.split())
        before = "" if _HEADING.match(line) or _UNDERLINE.match(line) else line
    beginning, *headed = parts
    headed = [words for words in headed if words]
    return len(headed) + bool(beginning and headed and beginning >= min(headed))


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
