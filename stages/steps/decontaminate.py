"""Held-out questions stay held out: rows that repeat one, or a long run of its words, are dropped.

Overlap of word n-grams is the usual measure (GPT-3 used n = 13).
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep

TEMPLATE_RUN = 5
TEMPLATE_COUNT = 10
TEMPLATE_SHARE = 0.05
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"


class HeldOut(NamedTuple):
    """What is searched for: whole held-out questions, and runs of `ngram` of their words that would give one
    away.
    """

    exact: frozenset[str]
    runs: frozenset[str]
    ngram: int

    def leak(self, question: str, text: str) -> Dropped | None:
        """Return why a row with this question and text must not be trained on, None if it may."""
        asked = words(question)
        if " ".join(asked) in self.exact:
            return Dropped("held_out_exact", question[:200])
        runs = (run for part in (asked, words(text)) for run in _runs(part, self.ngram))
        leaked = next((run for run in runs if run in self.runs), None)
        return None if leaked is None else Dropped("held_out_ngram", leaked)


def held_out(
    questions: Iterable[str],
    ngram: int,
    trained_texts: Callable[[Row], Iterable[str]] = lambda row: [row.payload["text"]],
) -> DatasetStep:
    """Return a step that drops rows whose question, or one of whose `trained_texts`, leaks a held-out
    question.
    """
    search = search_for(questions, ngram)

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        for row in rows():
            question, asked = row.payload["question"], row.payload.get("asked")
            leaks = (leak for text in trained_texts(row) if (leak := search.leak(question, text)))
            yield row, next(leaks, None) or (search.leak(asked, "") if asked else None)

    return step


def search_for(questions: Iterable[str], ngram: int) -> HeldOut:
    """Return what to search rows for, so that none of the held-out `questions` leaks.

    held_out_exact: the row's question is a held-out one, ignoring case, white space, quotes and sentence
    punctuation. held_out_ngram: `ngram` consecutive words of the row's question or text occur in a held-out
    question. A held-out question shorter than that can only be matched exactly.

    Procedural questions are one template filled in differently, so they share long runs of words without any
    leak. Words are template text where a run of TEMPLATE_RUN of them occurs in more than TEMPLATE_COUNT
    different held-out questions, or in more than TEMPLATE_SHARE of them and at least two; the others are a
    question's own. A run leaks only if all its words are the question's own, or if it contains every word
    that is. A single held-out question does not reveal its template.
    """
    if ngram < 1:
        raise ValueError(f"an n-gram has at least one word, not {ngram}")
    exact = {tuple(words(question)) for question in questions} - {()}
    size = min(TEMPLATE_RUN, ngram)
    counts = Counter(run for question in exact for run in set(_runs(question, size)))
    often = max(1, min(TEMPLATE_COUNT, TEMPLATE_SHARE * len(exact)))
    template = frozenset(run for run, count in counts.items() if count > often)
    runs = frozenset(run for question in exact for run in _telling_runs(question, ngram, size, template))
    return HeldOut(frozenset(" ".join(question) for question in exact), runs, ngram)


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


def _runs(of: Sequence[str], ngram: int) -> Iterator[str]:
    return (" ".join(of[i : i + ngram]) for i in range(len(of) - ngram + 1))
