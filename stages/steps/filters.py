"""Row filters before verification, and the cap on answers per question after it. Source: ReGenesis 1.4."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from pipeline.config import Filters, Recipe
from pipeline.ids import unit_interval
from pipeline.methods import DatasetStep, Stage
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM

CUT_SHORT = frozenset(
    ["length", "max_tokens", "content_filter", "abort", "error"]
)  # how an answer ends that is not whole, by any server's name
CHARS_PER_WORD = 5  # where a text has no spaces, this many characters stand for a word


def stage(recipe: Recipe) -> Stage:
    """Return the filter stage for `recipe.filters`.

    Drop reasons: empty_answer, truncated, too_few_tokens, too_many_tokens, repetition.
    """
    of_rows = recipe.filters.model_dump(
        mode="json", exclude={"drop_duplicates"}
    )  # which publish does, over all rows
    return Stage(row=partial(_filter, recipe.filters), config=of_rows)


def cap_per_question(n: int, seed: int) -> DatasetStep:
    """Return a step that keeps `n` answers of each question (payload["task_id"]), the others are dropped as over_cap.

    The choice is uniform and depends on `seed` and the rows' ids only, neither on their order nor on the machine.
    """
    if n < 1:
        raise ValueError(f"a cap per question is at least 1, not {n}")
    return partial(_cap, n, seed)


def repeated(units: Sequence[str], ngram: int, limit: int) -> Sequence[str] | None:
    """Return the first run of `ngram` units that occurs `limit` times without overlap, None if there is none. Linear time.

    Overlaps do not count: "0 0 0 0 0 0 0 0 0 0 0" holds eight zeros once, not four times.
    """
    seen: dict[Sequence[str], tuple[int, int]] = {}  # run: how often, and from where on it counts again
    for start in range(len(units) - ngram + 1):
        run = units[start : start + ngram]
        count, free = seen.get(run, (0, 0))
        if start >= free:
            if count + 1 == limit:
                return run
            seen[run] = (count + 1, start + ngram)
    return None


async def _filter(filters: Filters, row: Row, llm: LLM) -> Outcome:
    found = problem(row, filters)
    return Dropped(*found, row.payload["text"]) if found else Kept([row.child("filter", 0)])


def problem(row: Row, filters: Filters) -> tuple[str, str] | None:
    """Return the reason and the detail of the first filter that refuses the row."""
    said = row.payload
    return refused(said["text"], said["completion_tokens"], said["finish_reason"], filters)


def refused(text: str, tokens: int, finish_reason: str, filters: Filters) -> tuple[str, str] | None:
    """Return the reason and the detail of the first filter that refuses an answer."""
    if not text.strip():
        return "empty_answer", "the text is blank"
    if filters.drop_truncated and finish_reason in CUT_SHORT:
        return "truncated", f"ended by {finish_reason} after {tokens} tokens"
    if 0 < tokens < filters.min_tokens:  # 0: an endpoint that does not count; what is blank was refused above
        return "too_few_tokens", f"{tokens} < {filters.min_tokens}"
    if filters.max_tokens is not None and tokens > filters.max_tokens:
        return "too_many_tokens", f"{tokens} > {filters.max_tokens}"
    if loop := repetition(text, filters):
        return "repetition", loop
    return None


def repetition(text: str, filters: Filters) -> str:
    """Return what a text repeats, and how often; "" for one that does not repeat itself."""
    loop = _loop(text, filters.repetition_ngram, filters.repetition_limit)
    return f"{filters.repetition_limit} times: {loop[:200]}" if loop else ""


def _loop(text: str, ngram: int, limit: int) -> str:
    """Return what a text repeats: words, or characters within a stretch without spaces ("hahaha...", or Chinese)."""
    words = tuple(text.split())
    if run := repeated(words, ngram, limit):
        return " ".join(run)
    width = ngram * CHARS_PER_WORD
    for word in words:
        if len(word) >= width * limit and (run := repeated(word, width, limit)):
            return str(run)
    return ""


def _cap(n: int, seed: int, rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    chosen: dict[
        str, list[tuple[float, str]]
    ] = {}  # question: heap of the n smallest draws, negated, so that the largest is on top
    for row in rows():
        draws, draw = chosen.setdefault(row.payload["task_id"], []), (-unit_interval(seed, row.id), row.id)
        if len(draws) < n:
            heapq.heappush(draws, draw)
        else:
            heapq.heappushpop(draws, draw)
    kept = {row_id for draws in chosen.values() for _, row_id in draws}
    for row in rows():
        yield row, None if row.id in kept else Dropped("over_cap", f"{n} others of this question were drawn")
