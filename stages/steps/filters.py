"""Row filters before verification, filters of one's own, and the cap on answers per question after it."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import orjson

from pipeline.chat import UNFINISHED
from pipeline.config import Filters, Recipe
from pipeline.errors import ConfigError
from pipeline.ids import unit_interval
from pipeline.registry import resolve
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.stage import DatasetStep, Stage
from stages.steps import loops
from stages.steps.groups import decided

# Finish reasons of answers that are not whole, in the words of any server.
CUT_SHORT = frozenset(["length", "max_tokens", "content_filter", "abort", "error", UNFINISHED])
CHARS_PER_WORD = 5  # what a word counts in characters, or in bytes

Refusal = tuple[str, str] | None  # reason and detail; None lets the row pass
# A filter of one's own, named in filters.own: a class that is built from its options and called with a row,
# or a function.
Filter = Callable[[Row], Refusal]


def stage(recipe: Recipe) -> Stage:
    """Return the filter stage for `recipe.filters`.

    Drop reasons: unfinished_thought, empty_answer, truncated, too_few_tokens, too_many_tokens, repetition,
    and those of filters.own.
    """
    _own(orjson.dumps(recipe.filters.own))  # an error in them is an error before the first request
    config = {
        k: v for k, v in recipe.filters.fingerprint().items() if k != "drop_duplicates"
    }  # that is publish's
    return Stage(row=partial(_filter, recipe.filters), config=config)


async def _filter(filters: Filters, row: Row, llm: LLM) -> Outcome:
    refusal = problem(row, filters)
    return Dropped(*refusal, row.payload["text"]) if refusal else Kept([row.child("filter", 0)])


def problem(row: Row, filters: Filters) -> Refusal:
    """Return reason and detail of the first filter that refuses the row."""
    p = row.payload
    refusal = refused(p["text"], p["completion_tokens"], p["finish_reason"], filters)
    return refusal or next((r for own in _own(orjson.dumps(filters.own)) if (r := own(row))), None)


def refused(text: str, tokens: int, finish_reason: str, filters: Filters) -> Refusal:
    """Return reason and detail of the first built-in filter that refuses an answer."""
    if finish_reason == UNFINISHED and (filters.drop_truncated or not text.strip()):
        return UNFINISHED, f"cut off within its thought after {tokens} tokens"
    if not text.strip():
        return "empty_answer", "the text is blank"
    if filters.drop_truncated and finish_reason in CUT_SHORT:
        return "truncated", f"ended by {finish_reason} after {tokens} tokens"
    if 0 < tokens < filters.min_tokens:  # 0: the endpoint does not count tokens
        return "too_few_tokens", f"{tokens} < {filters.min_tokens}"
    if filters.max_tokens is not None and tokens > filters.max_tokens:
        return "too_many_tokens", f"{tokens} > {filters.max_tokens}"
    if loop := repetition(text, filters):
        return "repetition", loop
    return None


@lru_cache(maxsize=16)
def _own(specs: bytes) -> tuple[Filter, ...]:
    return tuple(_build(spec) for spec in orjson.loads(specs))


def _build(spec: str | dict[str, Any]) -> Filter:
    """Return a filter of one's own: "module:Name", or {use: module:Name, option: value, ...}. Raises
    ConfigError.
    """
    options = dict(spec) if isinstance(spec, dict) else {"use": spec}
    name = options.pop("use", None)
    if not isinstance(name, str):
        raise ConfigError(
            f"filters.own: {spec!r} names no filter; expected "
            "module:Name, or a mapping with `use: module:Name`"
        )
    target = resolve("filter", name)
    try:
        built = target(**options) if isinstance(target, type) else partial(target, **options)
    except Exception as e:  # whatever a user's constructor raises
        raise ConfigError(
            f"filters.own: {name} cannot be built with {options}: {type(e).__name__}: {e}"
        ) from e
    if not callable(built):
        raise ConfigError(
            f"filters.own: {name} is no filter; expected __call__(row) -> (reason, detail) or None"
        )
    return built


def repetition(text: str, filters: Filters) -> str:
    """Return what a text repeats, and how much of it or how often; "" if `filters` allow it."""
    if (limit := filters.repetition_share) is not None:
        found = loops.repetition(text, filters.repetition_ngram * CHARS_PER_WORD)
        if found.share > limit:
            return f"{found.share:.0%} of the text repeats: {found.passage[:200]}"
    return _counted(text, filters.repetition_ngram, filters.repetition_limit)


def _counted(text: str, ngram: int, limit: int | None) -> str:
    """Return the first run of `ngram` words that occurs `limit` times, or of characters within a stretch
    without spaces ("hahaha...", or Chinese).
    """
    if limit is None:
        return ""
    words, width = tuple(text.split()), ngram * CHARS_PER_WORD
    loop = " ".join(repeated(words, ngram, limit) or ())
    long = (word for word in words if not loop and len(word) >= width * limit)
    loop = loop or next((str(run) for word in long if (run := repeated(word, width, limit))), "")
    return f"{limit} times: {loop[:200]}" if loop else ""


def repeated(units: Sequence[str], ngram: int, limit: int) -> Sequence[str] | None:
    """Return the first run of `ngram` units that occurs `limit` times without overlap, or None. Linear time.

    Overlaps do not count: "0 0 0 0 0 0 0 0 0 0 0" contains eight zeros once, not four times.
    """
    seen: dict[
        Sequence[str], tuple[int, int]
    ] = {}  # run: its count, and the position from which it counts again
    for start in range(len(units) - ngram + 1):
        run = units[start : start + ngram]
        count, free = seen.get(run, (0, 0))
        if start >= free:
            if count + 1 == limit:
                return run
            seen[run] = (count + 1, start + ngram)
    return None


def cap_per_question(n: int, seed: int) -> DatasetStep:
    """Return a step that keeps `n` answers per question (payload["task_id"]) and drops the others as
    over_cap.

    The choice is uniform and depends on `seed` and the row ids only.
    """
    if n < 1:
        raise ValueError(f"a cap per question is at least 1, not {n}")
    return partial(_cap, n, seed)


def _cap(n: int, seed: int, rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    def entry(row: Row) -> tuple[str, tuple[float, str]]:
        return row.payload["task_id"], (-unit_interval(seed, row.id), row.id)

    def keep(draws: list[tuple[float, str]]) -> list[bool]:
        chosen = set(heapq.nlargest(n, draws))
        return [draw in chosen for draw in draws]

    for row, kept in decided(rows, entry, keep):
        yield row, None if kept else Dropped("over_cap", f"{n} others of this question were drawn")
