"""Model-written instructions: which are valid, which are new, and the judge's answer.

Source: Self-Lengthen (Quan et al. 2024, arXiv 2410.23933).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.methods.self_lengthen.lengths import is_chinese, words
from stages.methods.self_lengthen.long_texts import Problem, units

FEWEST, MOST = 3, 500  # words, exclusive
_RUN = 3
_CLAUSE_END = re.compile("[.,;:!?\n\u3002\uff0c\uff1b\uff1a\uff01\uff1f]")
_MARKS = "\"'*`\u201c\u201d"
_LENGTH = re.compile(r"\d[\d,.]*[\s-]*(?:words?|字)", re.IGNORECASE)

Gram = tuple[str, ...]
Key = tuple[int, str]


def problem(text: str, finish_reason: str, known: Sequence[str], similarity: float) -> Problem | None:
    """Return why a candidate is not a new instruction, None if it is.

    Reasons: instruction_truncated, instruction_length, instruction_lines (it has several),
    instruction_asks_length (in words: its text need not have that length; see draw_demand),
    instruction_known.
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
    """Tell whether a judge's reply is yes: "Yes.", "YES" or a sentence starting with "Yes,"; nothing else."""
    first = _CLAUSE_END.split(reply.strip().strip(_MARKS).strip(), maxsplit=1)[0]
    return first.strip().strip(_MARKS).casefold() in ("yes", "是", "是的")


def distinct(similarity: float) -> DatasetStep:
    """Return a step that drops rows whose instruction (payload["question"]) is like another or like a seed.

    Rows of one instruction (payload["instruction_id"]) stay together; of similar instructions the smallest id
    stays.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        texts: dict[Key, str] = {}
        for row in rows():
            texts[0, row.payload["seed"]] = row.payload["seed"]
            texts[1, row.payload["instruction_id"]] = row.payload["question"]
        twins = near_duplicates(texts, similarity)
        for row in rows():
            why = None
            if twin := twins.get((1, row.payload["instruction_id"])):
                why = Dropped("similar_instruction", f"like: {texts[twin][:200]}", row.payload["question"])
            yield row, why

    return step


def near_duplicates(texts: Mapping[Key, str], similarity: float) -> dict[Key, Key]:
    """Map each text that is like an earlier kept one (by key) to that one.

    Two texts are alike when their word trigrams have a Jaccard index of at least `similarity`. They then
    share one of the rarest trigrams of each (prefix filtering), so few pairs are compared.
    """
    grams = {key: _grams(text) for key, text in texts.items()}
    frequency = Counter(gram for own in grams.values() for gram in own)
    index: dict[Gram, list[Key]] = {}
    twins: dict[Key, Key] = {}
    for key in sorted(texts):
        rarest = sorted(grams[key], key=lambda gram: (frequency[gram], gram))
        rarest = rarest[: len(rarest) - math.ceil(similarity * len(rarest)) + 1]
        near = dict.fromkeys(other for gram in rarest for other in index.get(gram, ()))
        twin = next((other for other in near if alike(grams[key], grams[other]) >= similarity), None)
        if twin is not None:
            twins[key] = twin
            continue
        for gram in rarest:
            index.setdefault(gram, []).append(key)
    return twins


def alike(a: frozenset[Gram], b: frozenset[Gram]) -> float:
    """Return the Jaccard index of two sets of trigrams."""
    return len(a & b) / len(a | b) if a | b else 1.0


def _grams(text: str) -> frozenset[Gram]:
    tokens = _tokens(text)
    return frozenset(tokens[i : i + _RUN] for i in range(max(1, len(tokens) - _RUN + 1)))


def keeps(before: str, after: str) -> bool:
    """Tell whether a reworded instruction keeps three quarters of its words and adds at most 30."""
    old, new = (Counter(_tokens(text)) for text in (before, after))
    return 4 * (old & new).total() >= 3 * old.total() and (new - old).total() <= 30


def _tokens(text: str) -> tuple[str, ...]:
    """Return the words of a text without case and punctuation, or the units of a Chinese one."""
    return tuple(units(text)) if is_chinese(text) else tuple(re.findall(r"\w+", text.casefold()))
