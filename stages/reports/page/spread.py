"""How varied a set of texts is: distinct n-grams and self-BLEU, both for samples of one size.

Distinct-n (Li et al. 2016) is the share of n-grams that differ; it falls with the number of words, so sets
are only comparable over equally many. Self-BLEU (Zhu et al. 2018) is how well the other texts of the set
predict a text's n-grams: 0 where no two share any, 1 where all are alike.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from pipeline.ids import digest, unit_interval
from stages.steps import words

Words = Sequence[str]
ORDERS = (1, 2, 3, 4)  # of BLEU
BLEU_TEXTS = 500
LONGEST = 2000  # words of one text that are looked at


def split(text: str) -> list[str]:
    """Return the first words of a text in lower case."""
    return words.split(text[: LONGEST * 12].lower())[:LONGEST]


def choose(texts: Sequence[str], n: int) -> list[str]:
    """Return `n` of the texts, chosen by their content alone, or all if there are fewer."""
    return sorted(texts, key=lambda text: unit_interval("spread", text))[:n]


def distinct(texts: Sequence[Words], n: int, limit: int) -> float | None:
    """Return the share of distinct n-grams among those in the first `limit` words, None without any."""
    grams = list(islice((gram for text in texts for gram in _grams(text, n)), limit))
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[Words]) -> float | None:
    """Return the mean BLEU-4 of each text with all others as references; None for fewer than two texts.

    An n-gram's highest count among the others is its highest among all, or the second highest for the text
    that has the highest: linear in the number of words. No brevity penalty: some reference is always as long,
    but for the longest text. Orders without a match count as half a match (Chen and Cherry 2014, method 1).
    """
    some = [text for text in texts if len(text) >= max(ORDERS)]
    if len(some) < 2:
        return None
    logs = [0.0] * len(some)
    for n in ORDERS:
        counts = [Counter(_grams(text, n)) for text in some]
        highest: dict[
            tuple[str, ...], tuple[int, int, int]
        ] = {}  # n-gram -> highest, its text, second highest
        for i, of_text in enumerate(counts):
            for gram, count in of_text.items():
                first, owner, second = highest.get(gram, (0, -1, 0))
                if count > first:
                    highest[gram] = (count, i, first)
                elif count > second:
                    highest[gram] = (first, owner, count)
        for i, of_text in enumerate(counts):
            matched = 0
            for gram, count in of_text.items():
                first, owner, second = highest[gram]
                matched += min(count, second if owner == i else first)
            logs[i] += math.log(max(matched, 0.5) / of_text.total())
    return sum(math.exp(total / len(ORDERS)) for total in logs) / len(some)


def fingerprint(text: str) -> str:
    """Return what two texts share that differ in case and white space only."""
    return digest(" ".join(text.lower().split()))[:16]


def _grams(text: Words, n: int) -> list[tuple[str, ...]]:
    return list(zip(*(text[i:] for i in range(n)), strict=False))
