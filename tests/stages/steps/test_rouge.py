"""ROUGE-L against its definition: a table over all prefixes, filled cell by cell."""

from hypothesis import given
from hypothesis import strategies as st

from stages.steps.rouge import common_length, rouge_l

TEXTS = st.lists(st.sampled_from("abcd"), max_size=80)


def by_table(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(TEXTS, TEXTS)
def test_the_common_subsequence_is_the_longest(a: list[str], b: list[str]) -> None:
    assert common_length(a, b) == by_table(a, b) == common_length(b, a)


@given(TEXTS, TEXTS)
def test_it_is_a_measure_of_likeness(a: list[str], b: list[str]) -> None:
    score = rouge_l(a, b)
    assert 0 <= score <= 1 and score == rouge_l(b, a) and (score == 1) == (a == b and bool(a))


def test_worked_examples() -> None:
    """Lin 2004, on "police killed the gunman".

    It has a common subsequence of 3 words with the second text, of 2 with the third.
    """
    police = ["police", "killed", "the", "gunman"]
    assert rouge_l(police, ["police", "kill", "the", "gunman"]) == 0.75
    assert rouge_l(police, ["the", "gunman", "kill", "police"]) == 0.5
    assert rouge_l(police, []) == rouge_l([], []) == 0
