"""Text lengths: counting words, asking for a length, scoring it, and the filter that favors long texts.

Source: Self-Lengthen (Quan et al. 2024, arXiv 2410.23933) and its benchmark LonGen.
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep

KINDS = {"about": 0.40, "range": 0.25, "above": 0.10, "below": 0.25}  # the share of demands of each kind
COARSE_SHARE = 0.2  # of demands are rounded to twice the unit
_UNITS = (2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)
_CHARACTER = re.compile("[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]")  # ideographs, and Chinese punctuation
# Thai, Lao, Khmer and Burmese have spaces between clauses, not words. Finding words takes a dictionary.
_UNSPACED = re.compile("[\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1780-\u17ff]")
UNSPACED_LENGTH = 4.5  # characters of a word of Thai, vowel signs and tone marks included


def words(text: str) -> int:
    """Count words: Chinese characters, punctuation included, what white space separates in the rest, and in
    scripts without spaces as many as the number of characters makes likely.
    """
    unspaced, rest = len(_UNSPACED.findall(text)), _CHARACTER.sub(" ", text)
    if unspaced:
        rest = _UNSPACED.sub(" ", rest)
    return len(_CHARACTER.findall(text)) + len(rest.split()) + math.ceil(unspaced / UNSPACED_LENGTH)


def is_unspaced(text: str) -> bool:
    """Tell whether at least half of the words are in a script without spaces, other than Chinese."""
    return 2 * math.ceil(len(_UNSPACED.findall(text)) / UNSPACED_LENGTH) >= max(1, words(text))


def is_chinese(text: str) -> bool:
    """Tell whether at least half of the words are Chinese characters."""
    return 2 * len(_CHARACTER.findall(text)) >= max(1, words(text))


class Demand(NamedTuple):
    """A length asked for, in words: about N, above N, below N (one number), or a range (two)."""

    kind: str
    numbers: tuple[int, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The lengths that meet it, by LonGen."""
        n = self.numbers[0]
        return {
            "about": (8 * n / 10, 12 * n / 10),
            "range": (n, self.numbers[-1]),
            "above": (n, 1.5 * n),
            "below": (0.5 * n, n),
        }[self.kind]

    def score(self, length: int) -> float:
        """Return LonGen's score of a text of `length` words: 1 inside the interval, falling to 0 outside."""
        return length_score(length, *self.interval)

    def __str__(self) -> str:
        return f"{self.kind} {'-'.join(map(str, self.numbers))}"

    @classmethod
    def parse(cls, text: str) -> "Demand":
        """Parse what str() writes. Raises DataError."""
        match = re.fullmatch(r"\s*(?:(about|above|below)\s+(\d+)|(range)\s+(\d+)\s*-\s*(\d+))\s*", text)
        kind, *numbers = (group for group in match.groups() if group) if match else ("",)
        demand = cls(kind, tuple(map(int, numbers)))
        if not match or min(demand.numbers) < 1 or demand.numbers[0] > demand.numbers[-1]:
            raise DataError(
                f"{text!r} is not a length: expected e.g. 'about 150', 'range 100-200', 'above 100' or "
                "'below 200' (words)"
            )
        return demand


def length_score(length: int, low: float, high: float) -> float:
    """Return 1 for a length in [low, high], falling linearly to 0 outside."""
    if length < low:
        return max(0.0, 2 * length / low - 1)
    return 1.0 if length <= high else max(0.0, 3 - 2 * length / high)


def draw_demand(length: int, unit: int, *key: object) -> Demand:
    """Draw a demand, seeded by `key`, that a text of `length` words (at least 1) meets in full."""
    at, upper = unit_interval("kind", *key), accumulate(KINDS.values())
    kind = next((name for name, total in zip(KINDS, upper, strict=True) if at < total), "below")
    return demand_for(length, kind, 2 * unit if unit_interval("coarse", *key) < COARSE_SHARE else unit)


def demand_for(length: int, kind: str, unit: int) -> Demand:
    """Return a demand that `length` meets with score 1, in multiples of `unit` or the next smaller unit."""
    for step in (unit, *(u for u in _UNITS if u < unit)):
        low, near = length // step * step, (length + step // 2) // step * step
        numbers = {
            "about": (near,),
            "range": (low, low + step),
            "above": (low,),
            "below": (-(-length // step) * step,),
        }[kind]
        demand = Demand(kind, numbers)
        if min(numbers) > 0 and demand.score(length) == 1:
            return demand
    raise ValueError(f"no text has {length} words")


# The direction a number is meant in. Negations are resolved first: "no more than" becomes "at most".
_NOT_UP = re.compile(
    r"(?i)\b(?:no|not|never)\b(?: to)? (?:more|longer|greater|larger|over|above|exceed\w*)(?: than)?"
    r"|不超过|不多于|不要?高于"
)
_NOT_DOWN = re.compile(r"(?i)\b(?:no|not|never)\b (?:less|fewer|shorter|under|below)(?: than)?|不少于|不低于")
_DIRECTIONS = {  # whole words; Chinese ones have no white space around them
    name: re.compile(rf"(?i)(?<![a-z])(?:{options})(?![a-z])")
    for name, options in {
        "down": r"at most|up to|under|below|less|fewer|shorter|max(?:imum)?|limit(?:ed|s)?|within"
        "|至多|最多|以内|以下|少于",
        "up": r"at least|more|over|above|longer|exceed\w*|min(?:imum)?|至少|最少|以上|超过|多于",
    }.items()
}
_BEFORE, _AFTER = 40, 20  # characters around a number that may state its direction
_NUMBER = re.compile(r"\d(?:[\d,]*\d)?")


def states(text: str, demand: Demand, before: str) -> bool:
    """Tell whether `text` asks for the demand: its numbers and direction, and no numbers new since `before`.

    When in doubt it does not: a sentence appended to the instruction then asks for the length.
    """
    numbers, known = ({_value(n) for n in _NUMBER.findall(t)} for t in (text, before))
    if not set(demand.numbers) <= numbers or numbers - set(demand.numbers) - known:
        return False
    plain = _NOT_DOWN.sub("at least", _NOT_UP.sub("at most", text))
    near = ""
    for match in _NUMBER.finditer(plain):
        if _value(match[0]) in demand.numbers:
            start, end = match.span()
            near += f" {plain[max(0, start - _BEFORE) : start]} # {plain[end : end + _AFTER]}"
    directions = {name for name, pattern in _DIRECTIONS.items() if pattern.search(near)}
    return directions == {"below": {"down"}, "above": {"up"}}.get(demand.kind, set())


def _value(number: str) -> int:
    return int(number.replace(",", ""))


def keep_probability(position: float, count: int) -> float:
    """Return the chance to keep the text at `position` of `count`, shortest first: 0 for the first fifth."""
    return max(0.0, 1 - 2 * (1 - position / count) ** 3)


def length_biased(field: str, seed: int) -> DatasetStep:
    """Return a step that drops rows with a small payload[field] more often than others; reason length_bias.

    Equal lengths share their mean position. The draw depends on `seed` and row ids alone. Memory: one number
    per row.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        lengths = sorted(row.payload[field] for row in rows())
        for row in rows():
            length = row.payload[field]
            position = (bisect_left(lengths, length) + bisect_right(lengths, length) - 1) / 2
            chance = keep_probability(position, len(lengths))
            detail = f"{length} words, kept with probability {chance:.2f}"
            kept = unit_interval(seed, "length_bias", field, row.id) < chance
            yield row, None if kept else Dropped("length_bias", detail, row.payload["text"])

    return step
