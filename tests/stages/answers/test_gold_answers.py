"""Gold answers of mathematics: each equals itself and nothing else, also when it is damaged."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.answers import check_truth, difference, equal, normalized


def gold() -> list[tuple[str, str]]:
    answers, kind = [], ""
    for line in (Path(__file__).parent / "gold_answers.txt").read_text().splitlines():
        if line in ("# math", "# number"):
            kind = line[2:]
        elif not line.startswith("#"):
            answers.append((line, kind))
    return answers


def one_digit_changed(text: str) -> list[str]:
    return [
        f"{text[:i]}{(int(c) + 1) % 10}{text[i + 1 :]}"
        for i, c in enumerate(text)
        if c.isascii() and c.isdigit()
    ]


def test_any_one_digit_changed_makes_a_gold_answer_unequal():
    changed = [(other, text, kind) for text, kind in gold() for other in one_digit_changed(text)]
    assert len(changed) > 1000
    assert [case for case in changed if equal(*case)] == []
    assert [case for case in changed if normalized(case[0], case[2]) == normalized(case[1], case[2])] == []


def test_gold_answers_are_read_and_equal_themselves():
    assert [case for case in gold() if check_truth(*case)] == []
    assert [text for text, kind in gold() if not equal(text, f" {text} ", kind)] == []


@given(st.sampled_from(gold()), st.sampled_from(gold()))
@settings(max_examples=300, deadline=None)
def test_two_gold_answers_compare_alike_both_ways(one, other):
    (a, kind), b = one, other[0]
    if not check_truth(b, kind):
        assert difference(a, b, kind) == difference(b, a, kind)


PIECES = [
    "\\frac",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "_",
    "^",
    "|",
    "!",
    "%",
    "$",
    ",",
    "=",
    "<",
    "\\in",
    "\\pm",
    "\\cup",
]
PIECES += [
    "\\text{ cm}",
    " or ",
    "\\begin{pmatrix}",
    "&",
    "\\\\",
    "\\sqrt",
    "\\log",
    "\\sin",
    "\\infty",
    "2.5",
    "x",
    "e",
    "''s",
]
PIECES += [
    "\\angle",
    "\\mathbb{R}",
    "- ",
    "mg",
    "km/h",
    "..",
    "~",
    "½",
    "√",
    "²",
    "\\binom",
    "000",
    "\\lfloor",
    "\\pi",
    "/",
]


@given(st.sampled_from(gold()), st.integers(0, 30), st.lists(st.sampled_from(PIECES), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_nothing_raises_on_damaged_mathematics_and_a_text_equals_itself(answer, at, pieces):
    text = answer[0][:at] + "".join(pieces) + answer[0][at:]
    assert isinstance(normalized(text, "math"), str)
    assert equal(text, text, "math") == (check_truth(text, "math") == "")
    assert bool(difference(text, answer[0], "math")) == bool(difference(answer[0], text, "math"))
