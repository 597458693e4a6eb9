"""Instructions that a model writes: what is one, which are new, and what a judge said. Source: Self-Lengthen 1.5, and fault 13."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.methods.self_lengthen.lengths import is_chinese, words
from stages.methods.self_lengthen.long_texts import units

FEWEST, MOST = 3, 500  # words; both are outside
_RUN = 3
_CLAUSE_END = re.compile("[.,;:!?\n\u3002\uff0c\uff1b\uff1a\uff01\uff1f]")
_MARKS = "\"'*`\u201c\u201d"
_LENGTH = re.compile(r"\d[\d,.]*[\s-]*(?:words?|字)", re.IGNORECASE)


def problem(text: str, finish_reason: str, known: Sequence[str], similarity: float) -> tuple[str, str] | None:
    """Return why a candidate is no new instruction (reason, detail), None if it is one.

    Reasons: instruction_truncated, instruction_length, instruction_lines (it has several), instruction_asks_length (a number of words:
    nothing sees to it that the text has as many; see draw_demand), instruction_known.
    """
    if finish_reason != "stop":
        return "instruction_truncated", f"ended by {finish_reason}"
    if not FEWEST < words(text) < MOST:
        return "instruction_length", f"{words(text)} words; expected more than {FEWEST} and fewer than {MOST}"
    if "\n" in text:
        return "instruction_lines", "several lines"
    if asked := _LENGTH.search(text):
        return "instruction_asks_length", asked[0]
    twin = next((other for other in known if alike(_grams(text), _grams(other)) >= similarity), None)
    return None if twin is None else ("instruction_known", f"like: {twin[:200]}")


def agreed(reply: str) -> bool:
    """Tell whether a judge's reply is yes: "Yes.", "YES", or a sentence that begins with "Yes,"; nothing else."""
    first = _CLAUSE_END.split(reply.strip().strip(_MARKS).strip(), maxsplit=1)[0]
    return first.strip().strip(_MARKS).casefold() in ("yes", "是", "是的")


def distinct(similarity: float) -> DatasetStep:
    """Return a step that drops rows whose instruction (payload["question"]) is like another's or like a seed's (payload["seed"]).

    Rows of one instruction (payload["instruction_id"]) stay together. Of instructions that are alike the one with the smallest id stays.
    """
    return partial(_distinct, similarity)


def _distinct(similarity: float, rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    texts: dict[tuple[int, str], str] = {}
    for row in rows():
        texts[0, row.payload["seed"]] = row.payload["seed"]
        texts[1, row.payload["instruction_id"]] = row.payload["question"]
    twins = near_duplicates(texts, similarity)
    for row in rows():
        twin = twins.get((1, row.payload["instruction_id"]))
        yield (
            row,
            None
            if twin is None
            else Dropped("similar_instruction", f"like: {texts[twin][:200]}", row.payload["question"]),
        )


def near_duplicates(
    texts: Mapping[tuple[int, str], str], similarity: float
) -> dict[tuple[int, str], tuple[int, str]]:
    """Return, for each text that is like one with a smaller key, that one's key. Texts that are dropped so make no others drop.

    Two texts are alike when their runs of three words have a Jaccard index of at least `similarity`. To be so alike they must share
    a run among the rarest few of each (prefix filtering), so that few pairs are compared.
    """
    grams = {key: _grams(text) for key, text in texts.items()}
    often = Counter(gram for found in grams.values() for gram in found)
    index: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    twins: dict[tuple[int, str], tuple[int, str]] = {}
    for key in sorted(texts):
        rarest = sorted(grams[key], key=lambda gram: (often[gram], gram))
        rarest = rarest[: len(rarest) - math.ceil(similarity * len(rarest)) + 1]
        near = dict.fromkeys(other for gram in rarest for other in index.get(gram, ()))
        twin = next((other for other in near if alike(grams[key], grams[other]) >= similarity), None)
        if twin is not None:
            twins[key] = twin
            continue
        for gram in rarest:
            index.setdefault(gram, []).append(key)
    return twins


def alike(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """Return the Jaccard index of two sets of runs."""
    return len(a & b) / len(a | b) if a | b else 1.0


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    found = _bare(text)
    return frozenset(found[i : i + _RUN] for i in range(max(1, len(found) - _RUN + 1)))


def keeps(before: str, after: str) -> bool:
    """Tell whether a changed instruction still says what it said: three quarters of its words are there, and at most 30 others."""
    old, new = (Counter(_bare(text)) for text in (before, after))
    return 4 * (old & new).total() >= 3 * old.total() and (new - old).total() <= 30


def _bare(text: str) -> tuple[str, ...]:
    """Return the words of a text without case and punctuation, the units of a Chinese one."""
    return tuple(units(text)) if is_chinese(text) else tuple(re.findall(r"\w+", text.casefold()))
