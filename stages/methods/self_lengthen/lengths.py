"""How long a text is, how long it was asked to be, and the draw that prefers long ones. Source: Self-Lengthen 1.4, 1.11, 1.12."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep

CJK = "\u4e00-\u9fff\u3000-\u303f\uff00-\uffef"  # ideographs, and the punctuation of Chinese texts, which counts as well
KINDS = {
    "about": 0.40,
    "range": 0.25,
    "above": 0.10,
    "below": 0.25,
}  # what share of the demands is of each kind (1.11)
COARSE_SHARE = 0.2  # of the demands are rounded to twice the unit
_UNITS = (2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)
_CHARACTER = re.compile(f"[{CJK}]")


def words(text: str) -> int:
    """Return the words of a text: each Chinese character (punctuation too), and what white space divides in the rest."""
    return len(_CHARACTER.findall(text)) + len(_CHARACTER.sub(" ", text).split())


def is_chinese(text: str) -> bool:
    """Tell whether at least half of the words are Chinese characters."""
    return 2 * len(_CHARACTER.findall(text)) >= max(1, words(text))


class Demand(NamedTuple):
    """A length that is asked for: about N, above N, below N (one number), or a range (two), in words."""

    kind: str
    numbers: tuple[int, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Return the lengths that meet it (1.12)."""
        n = self.numbers[0]
        return {
            "about": (8 * n / 10, 12 * n / 10),
            "range": (n, self.numbers[-1]),
            "above": (n, 1.5 * n),
            "below": (0.5 * n, n),
        }[self.kind]

    def score(self, length: int) -> float:
        """Return the length score of a text with `length` words: 1 inside the interval, falling to 0 outside."""
        return length_score(length, *self.interval)

    def __str__(self) -> str:
        return f"{self.kind} {'-'.join(map(str, self.numbers))}"

    @classmethod
    def parse(cls, text: str) -> "Demand":
        """Read what str() writes. Raises DataError."""
        found = re.fullmatch(r"\s*(about|range|above|below)\s+(\d+)(?:\s*-\s*(\d+))?\s*", text)
        numbers = tuple(int(n) for n in found.groups()[1:] if n) if found else ()
        if (
            not found
            or len(numbers) != 1 + (found[1] == "range")
            or min(numbers) < 1
            or numbers[0] > numbers[-1]
        ):
            raise DataError(
                f"{text!r} is not a demand for a length; expected such as 'about 150', 'range 100-200', 'above 100' or 'below 200' (words)"
            )
        return cls(found[1], numbers)


def length_score(length: int, low: float, high: float) -> float:
    """Return 1 for a length in [low, high], less the further it is outside, at least 0."""
    if length < low:
        return max(0.0, 2 * length / low - 1)
    return 1.0 if length <= high else max(0.0, 3 - 2 * length / high)


def draw_demand(length: int, unit: int, *key: object) -> Demand:
    """Return a demand that a text of `length` words (1 or more) meets in full, its numbers as round as that allows.

    `unit` is what numbers are rounded to at first; `key` decides the draw of kind and coarseness.
    """
    at, total, kind = unit_interval("kind", *key), 0.0, "below"
    for name, share in KINDS.items():
        total += share
        if at < total:
            kind = name
            break
    return demand_for(length, kind, 2 * unit if unit_interval("coarse", *key) < COARSE_SHARE else unit)


def demand_for(length: int, kind: str, unit: int) -> Demand:
    """Return a demand of a kind that `length` meets with score 1, in multiples of `unit` or of the next smaller round number."""
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


# In which direction a number is meant. What is negated is turned round first: "no more than" is at most.
_NOT_UP = re.compile(
    r"\b(?:no|not|never)\b(?: to)? (?:more|longer|greater|larger|over|above|exceed\w*)(?: than)?|不超过|不多于|不要?高于",
    re.IGNORECASE,
)
_NOT_DOWN = re.compile(
    r"\b(?:no|not|never)\b (?:less|fewer|shorter|under|below)(?: than)?|不少于|不低于", re.IGNORECASE
)
_DOWN = r"at most|up to|under|below|less|fewer|shorter|max(?:imum)?|limit(?:ed|s)?|within|至多|最多|以内|以下|少于"
_UP = r"at least|more|over|above|longer|exceed\w*|min(?:imum)?|至少|最少|以上|超过|多于"
_BEFORE, _AFTER = 40, 20  # characters next to a number in which its direction is looked for


def states(text: str, demand: Demand, before: str) -> bool:
    """Tell whether `text` asks for the demand: its numbers, in its direction, and no number that was not in the text `before`.

    In doubt it does not: a sentence put behind the instruction is then what asks.
    """
    numbers = _numbers(text)
    if not set(demand.numbers) <= numbers or numbers - set(demand.numbers) - _numbers(before):
        return False
    return _directions(text, demand.numbers) == {"below": {"down"}, "above": {"up"}}.get(demand.kind, set())


def _directions(text: str, numbers: tuple[int, ...]) -> set[str]:
    """Return the directions, "up" or "down", in which a text means any of the numbers."""
    plain = _NOT_DOWN.sub("at least", _NOT_UP.sub("at most", text))
    near = ""
    for found in re.finditer(r"\d(?:[\d,]*\d)?", plain):
        if int(found[0].replace(",", "")) in numbers:
            near += f" {plain[max(0, found.start() - _BEFORE) : found.start()]} # {plain[found.end() : found.end() + _AFTER]}"
    return {
        name
        for name, words in (("down", _DOWN), ("up", _UP))
        if re.search(_whole(words), near, re.IGNORECASE)
    }


def _whole(words: str) -> str:
    """Return a pattern of words as wholes; Chinese ones have no white space about them."""
    return rf"(?<![a-z])(?:{words})(?![a-z])"


def _numbers(text: str) -> set[int]:
    return {int(n.replace(",", "")) for n in re.findall(r"\d(?:[\d,]*\d)?", text)}


def keep_probability(position: float, count: int) -> float:
    """Return with what probability the text at `position` of `count`, shortest first, is kept: 0 for the shortest fifth."""
    return max(0.0, 1 - 2 * (1 - position / count) ** 3)


def length_biased(field: str, seed: int) -> DatasetStep:
    """Return a step that drops rows the sooner the smaller payload[field] is among all of them; reason length_bias.

    Equal lengths share their mean position. The draw depends on `seed` and row ids alone. Memory: one number for each row.
    """
    return partial(_length_biased, field, seed)


def _length_biased(
    field: str, seed: int, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    lengths = sorted(row.payload[field] for row in rows())
    for row in rows():
        length = row.payload[field]
        chance = keep_probability(
            (bisect_left(lengths, length) + bisect_right(lengths, length) - 1) / 2, len(lengths)
        )
        kept = unit_interval(seed, "length_bias", field, row.id) < chance
        yield (
            row,
            None
            if kept
            else Dropped(
                "length_bias", f"{length} words, kept with probability {chance:.2f}", row.payload["text"]
            ),
        )
