"""ROUGE-L of two texts as lists of words: the F1 of their longest common subsequence (Lin 2004)."""

from collections.abc import Sequence


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """Return 2 * LCS / (len(a) + len(b)): 1 for equal lists, 0 without a common word."""
    return 2 * common_length(a, b) / (len(a) + len(b)) if a and b else 0.0


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    A row of the usual table is one integer here, a bit for each word of `a` that is 0 where the length grows
    (Hyyro 2004), so that comparing a new question with thousands of known ones takes one step a word.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(a) - row.bit_count()
