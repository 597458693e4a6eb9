"""Held-out questions stay held out: rows that repeat one, or a long run of its words, are dropped.

Overlap of word n-grams is the usual measure (GPT-3 used n = 13).
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from pipeline.ids import digest
from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.environments import find
from stages.steps.words import split

TEMPLATE_RUN = 5
TEMPLATE_COUNT = 10
TEMPLATE_SHARE = 0.05
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"


class Asked(NamedTuple):
    """A question, and what is asked with it: `beside` are its options and the turns before it.

    `disjoint`: it is a task of an environment, whose train and test tasks differ by construction although
    their texts are alike, so that only an equal text is a leak (unless Environment.disjoint_splits says no).
    """

    question: str
    beside: tuple[str, ...] = ()
    disjoint: bool = False

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> "Asked":
        """Return what the payload of a task, or of an answer to it, asks."""
        turns = (turn["content"] for turn in payload.get("turns") or ())
        return cls(
            payload["question"], (*(payload.get("options") or ()), *turns), _is_apart_by_itself(payload)
        )

    def keys(self) -> tuple[str, str]:
        """Return the question's words, without and with what is beside it; "" for a question without any."""
        alone = words(self.question)
        return " ".join(alone), " ".join([*alone, *words("\n".join(self.beside))]) if alone else ""


class HeldOut(NamedTuple):
    """What is searched for: whole held-out questions, with their options and earlier turns (`exact`) and
    without (`stems`), and runs of `ngram` of their words that would give one away.
    """

    exact: frozenset[str]
    stems: frozenset[str]
    runs: frozenset[str]
    ngram: int

    def leak(self, question: str | Asked, text: str) -> Dropped | None:
        """Return why a row with this question and text must not be trained on, None if it may."""
        asked = _asked(question)
        if self.is_held_out(asked):
            return Dropped("held_out_exact", asked.question[:200])
        if not self.runs:
            return None
        runs = (run for part in (words(asked.question), words(text)) for run in _runs(part, self.ngram))
        leaked = next((run for run in runs if run in self.runs), None)
        return None if leaked is None else Dropped("held_out_ngram", leaked)

    def is_held_out(self, question: str | Asked) -> bool:
        """Tell whether this is a held-out question: a stem alone is, one with other options is not."""
        asked = _asked(question)
        stem, whole = asked.keys()
        return not {stem, whole}.isdisjoint(self.exact) or (not asked.beside and stem in self.stems)


def held_out(
    questions: Iterable[str | Asked],
    ngram: int,
    trained_texts: Callable[[Row], Iterable[str]] = lambda row: [row.payload["text"]],
) -> DatasetStep:
    """Return a step that drops rows whose question, or one of whose `trained_texts`, leaks a held-out
    question.
    """
    search = search_for(questions, ngram)

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        for row in rows():
            question, asked = Asked.of(row.payload), row.payload.get("asked")
            leaks = (leak for text in trained_texts(row) if (leak := search.leak(question, text)))
            yield row, next(leaks, None) or (search.leak(asked, "") if asked else None)

    return step


def search_for(questions: Iterable[str | Asked], ngram: int) -> HeldOut:
    """Return what to search rows for, so that none of the held-out `questions` leaks.

    held_out_exact: the row's question is a held-out one, ignoring case, white space, quotes and sentence
    punctuation; of two questions that both have options, the options must be equal too. held_out_ngram:
    `ngram` consecutive words of the row's question or text occur in a held-out question. A held-out question
    shorter than that, or of an environment, can only be matched exactly.

    Procedural questions are one template filled in differently, so they share long runs of words without any
    leak. Words are template text where a run of TEMPLATE_RUN of them occurs in more than TEMPLATE_COUNT
    different held-out questions, or in more than TEMPLATE_SHARE of them and at least two; the others are a
    question's own. A run leaks only if all its words are the question's own, or if it contains every word
    that is. A single held-out question does not reveal its template.
    """
    if ngram < 1:
        raise ValueError(f"an n-gram has at least one word, not {ngram}")
    held = [_asked(question) for question in questions]
    keys = [key for asked in held if all(key := asked.keys())]
    searched = {tuple(words(asked.question)) for asked in held if not asked.disjoint} - {()}
    size = min(TEMPLATE_RUN, ngram)
    counts = Counter(run for question in searched for run in set(_runs(question, size)))
    often = max(1, min(TEMPLATE_COUNT, TEMPLATE_SHARE * len(searched)))
    template = frozenset(run for run, count in counts.items() if count > often)
    runs = frozenset(run for question in searched for run in _telling_runs(question, ngram, size, template))
    return HeldOut(frozenset(whole for _, whole in keys), frozenset(stem for stem, _ in keys), runs, ngram)


def digest_of(questions: Iterable[Asked]) -> str:
    """Return a digest of held-out questions: of their texts alone where nothing is beside them."""
    return digest([[*asked[:2]] if asked.beside else asked.question for asked in questions])


def is_searched_anew(asked: Asked) -> bool:
    """Tell whether versions before `Asked` searched for this question otherwise than this one."""
    return bool(asked.beside) or asked.disjoint or split(asked.question) != asked.question.split()


def _is_apart_by_itself(payload: Mapping[str, Any]) -> bool:
    """Tell whether a task's environment keeps its train and test tasks apart."""
    if (payload.get("source") or {}).get("source") != "environment":
        return False
    name = (payload.get("entry") or {}).get("environment")
    return name is None or _disjoint_splits(name)


@cache
def _disjoint_splits(environment: str) -> bool:
    return find(environment).disjoint_splits


def _asked(question: str | Asked) -> Asked:
    return Asked(question) if isinstance(question, str) else question


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

    Operators are words: 3 - 2 is not 3 + 2. In scripts without spaces each character is a word.
    """
    parts = split(unicodedata.normalize("NFKC", text).casefold())
    bare = (word.lstrip(_QUOTES).rstrip(_QUOTES + ".,;:?") for word in parts)
    return [word for word in bare if word]


def _runs(of: Sequence[str], ngram: int) -> Iterator[str]:
    return (" ".join(of[i : i + ngram]) for i in range(len(of) - ngram + 1))
