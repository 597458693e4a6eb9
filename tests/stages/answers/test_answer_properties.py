"""What holds of every answer and every text: nothing raises, and equality is one."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from stages import answers
from stages.answers import check_truth, equal, extract, mark, normalized
from tests.stages.answers.test_answers import CHEAP_TYPES, OPTIONS

pieces = st.lists(
    st.sampled_from(
        [
            "\\boxed{",
            "}",
            "{",
            "Answer: ",
            "\n",
            "1",
            "2.5",
            ",",
            "%",
            "/",
            "\\frac",
            " ",
            "A",
            "(B)",
            "yes",
            "=",
            "-",
            "e9",
            "**",
            "$",
        ]
    )
)
texts = st.one_of(st.text(st.characters(codec=None), max_size=60), pieces.map("".join))
numbers = st.one_of(
    st.integers().map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=4).map(lambda d: f"{d:f}"),
    st.fractions().map(str),
    st.integers(0).map(lambda i: f"{i:,}"),
)
words = st.text("abcXYZ019 é-+", min_size=1).filter(str.strip)
truths = st.one_of(
    st.tuples(st.sampled_from(["number", "fraction", "percentage"]), numbers),
    st.tuples(st.just("choice"), st.sampled_from(["A", "(B)", "c", *OPTIONS])),
    st.tuples(st.just("boolean"), st.sampled_from(["yes", "No", "TRUE", "false"])),
    st.tuples(st.just("text"), words),
)


@given(texts, texts, st.sampled_from(CHEAP_TYPES))
def test_nothing_raises_and_equal_is_symmetric_and_agrees_with_the_key(a, b, answer_type):
    assert equal(a, b, answer_type, OPTIONS) == equal(b, a, answer_type, OPTIONS)
    key = normalized(a, answer_type, OPTIONS)
    assert equal(a, b, answer_type, OPTIONS) == (key != "" and key == normalized(b, answer_type, OPTIONS))
    assert (check_truth(a, answer_type, OPTIONS) == "") == equal(a, a, answer_type, OPTIONS)
    answer, problem = extract(a, answer_type, OPTIONS)
    assert (answer is None) == bool(problem)
    assert isinstance(mark(a), str)


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_math_never_raises_and_is_symmetric(a, b):
    assert equal(a, b, "math") == equal(b, a, "math")
    assert isinstance(normalized(a, "math"), str)


@given(truths)
def test_equal_is_reflexive_and_marks_round_trip(truth):
    answer_type, text = truth
    assert check_truth(text, answer_type, OPTIONS) == ""
    assert equal(text, text, answer_type, OPTIONS)
    extracted, problem = answers.extract(mark(text), answer_type, OPTIONS)
    assert problem == ""
    assert equal(extracted, text, answer_type, OPTIONS)


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
)
def test_numbers_are_equal_exactly_when_their_values_are(a, b):
    assert equal(f"{a:f}", f"{b:,f}", "number") == (Decimal(a) == Decimal(b))
