"""Held out stays held out: rows that repeat an evaluation question, or a long run of words of one, are dropped.

Overlap of n-grams of words is the usual measure (GPT-3 used n = 13). ARCHITECTURE invariant 6.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from pipeline.methods import DatasetStep
from pipeline.rows import Dropped, Row

TEMPLATE_RUN = 5
TEMPLATE_COUNT = 10
TEMPLATE_SHARE = 0.05


def held_out(questions: Iterable[str], ngram: int) -> DatasetStep:
    """Return a step that drops rows that leak one of the held-out `questions`.

    held_out_exact: the row's question is a held-out one, but for case, white space, quotes and sentence punctuation.
    held_out_ngram: `ngram` consecutive words of the row's question or text stand in a held-out question. A held-out question
    shorter than that can only be matched exactly.

    Procedural questions are one template filled in differently, so they share long runs of words without any leak. Words
    are template text where a run of TEMPLATE_RUN of them occurs in more than TEMPLATE_COUNT different held-out questions,
    or in more than TEMPLATE_SHARE of them and at least two; the others are a question's own. A run is a leak only if all
    its words are the question's own, or if it has every word that is. A single held-out question gives nothing to tell its
    template by.
    """
    if ngram < 1:
        raise ValueError(f"an n-gram has at least one word, not {ngram}")
    exact = {tuple(words(question)) for question in questions} - {()}
    size = min(TEMPLATE_RUN, ngram)
    counts = Counter(run for question in exact for run in set(_runs(question, size)))
    often = max(1, min(TEMPLATE_COUNT, TEMPLATE_SHARE * len(exact)))
    template = frozenset(run for run, count in counts.items() if count > often)
    runs = frozenset(run for question in exact for run in _telling_runs(question, ngram, size, template))
    return partial(_held_out, frozenset(" ".join(question) for question in exact), runs, ngram)


def _telling_runs(question: Sequence[str], ngram: int, size: int, template: frozenset[str]) -> Iterator[str]:
    """Yield the runs of `ngram` words of a held-out question that would give it away."""
    own = [True] * len(question)
    for i, run in enumerate(_runs(question, size)):
        if run in template:
            own[i : i + size] = [False] * size
    needed = min(ngram, sum(own))
    for i, run in enumerate(_runs(question, ngram)):
        if needed and sum(own[i : i + ngram]) >= needed:
            yield run


def words(text: str) -> list[str]:
    """Return the words of `text`, case-folded, without quotes and trailing sentence punctuation.

    Operators are words: 3 - 2 is not 3 + 2.
    """
    split = unicodedata.normalize("NFKC", text).casefold().split()
    bare = (word.lstrip(_QUOTES).rstrip(_QUOTES + ".,;:?") for word in split)
    return [word for word in bare if word]


_QUOTES = "\"'`\u2018\u2019\u201c\u201d"


def _runs(of: Sequence[str], ngram: int) -> Iterator[str]:
    return (" ".join(of[i : i + ngram]) for i in range(len(of) - ngram + 1))


def _held_out(
    exact: frozenset[str], runs: frozenset[str], ngram: int, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    for row in rows():
        question = words(row.payload["question"])
        if " ".join(question) in exact:
            yield row, Dropped("held_out_exact", row.payload["question"][:200])
            continue
        found = next((run for part in (question, words(row.payload["text"])) for run in _runs(part, ngram) if run in runs), None)
        yield row, None if found is None else Dropped("held_out_ngram", found)
