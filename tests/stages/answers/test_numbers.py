# ruff: noqa: RUF001  (signs that look like others are the subject)
"""Numbers: what is read by value, and what is refused since its value is not certain."""

from fractions import Fraction

import pytest

from stages.answers import check_truth, difference, extract
from stages.answers.numeric import read_number
from stages.steps.verifiers import ground_truth

READ = r"""
18 dollars: 18
5 apples.: 5
36 eggs per week: 36
5 percent of the students: 1/20
60 miles/hour: 60
7km: 7
5 km²: 5
12 square units: 12
5-inch: 5
18 (dollars): 18
90^\circ: 90
20°C: 20
25 cents: 25
3/4 of a cup: 3/4
5 años: 5
5 men's shirts: 5
a total of 7 apples: 7
Janet makes $18 every day: 18
The area is 24 cm^2: 24
I have 5: 5
$5bn: 5000000000
$5m: 5000000
$5k: 5000
5bn: 5000000000
$2.5 million: 2500000
2 million: 2000000
5 dozen: 60
-$5: -5
$-5: -5
US$5: 5
€70,000: 70000
18.00 USD: 18
\left(\frac{21}2\right): 21/2
\color{red}{42}: 42
{42}: 42
\boxed{42}: 42
\textbf{42}: 42
10^{-7}: 1/10000000
10²³: 100000000000000000000000
10^3 m: 1000
28 pct: 7/25
28\%: 7/25
\frac3{-4}: -3/4
\frac{-3}{4}: -3/4
-\frac{3}{4}: -3/4
1.5\times10^3: 1500
3 x 10^4: 30000
3×10⁴: 30000
1.5e3: 1500
−5: -5
５: 5
2½: 5/2
2\frac12: 5/2
-2 1/2: -5/2
3⁄4: 3/4
0.\overline{6}: 2/3
0.(6): 2/3
0.1\dot{6}: 1/6
70,000: 70000
1,234,567.5: 2469135/2
1,00,000: 100000
1{,}080: 1080
1\,080: 1080
1'080'000: 1080000
"""

REFUSED = r"""
3 quarters
3 halves
2 thirds
5 tenths
5 hundredths
5 trillionths
5 pairs
5 couples
2 scores
5 tens
5 grand
5 lakh
5 mil
5 mega
5 millones
5 Millionen
€5 Mio
5 Mrd
5 thousand million
5π
5 \pi
1万
5亿
五
5k
5M
5m
5B
5K
5th
5x
5am
5 pm
3 p.m.
5 o'clock
5 BC
A5
B12
the square root of 16
√16
half of 6
twice 4
double 4
the cube of 3
minus 5
negative 5
about 5
~5
\approx 5
at least 5
more than 5
5 or more
5 more
5 less
5 and a half
5 below zero
5 times as many
5 squared
5²
2^{10}
5!
5'
5+
5-
--5
5‰
5 ppm
5 per thousand
5 percentage points
5 % less
5 3/2
5/0
0.333...
0.333…
0.333\ldots
\sqrt{4}
log 5
2x
5 r
5Ω
5 яблок
x \le 5
"""

SEVERAL = r"""
5 feet 6 inches
5'6
5 remainder 2
3:4
12:30
1.080.000
€5,50
1 080
5√2
1/2/3
3 \cdot 4
18 or 19
x = 18 or x = 2
x = 3, x = 5
5 or x = 7
3, x = 5
x=\boxed{3} or x=\boxed{5}
"""


def lines(table: str) -> list[str]:
    return table.strip().splitlines()


@pytest.mark.parametrize("line", lines(READ))
def test_read_by_value(line):
    text, value = line.rsplit(": ", 1)
    number = read_number(text)
    assert not isinstance(number, str), number
    assert Fraction(number.key) == Fraction(value)
    assert difference(text, value, "number") == difference(value, text, "number") == ""


@pytest.mark.parametrize(
    "text", ["1\u202f080", "1\u2009080", "1\u00a0080", "\u200b1080\u200e", "１０８０", "1,080"]
)
def test_separators_and_invisible_characters(text):
    assert difference(text, "1080", "number") == ""


@pytest.mark.parametrize("text", lines(REFUSED))
def test_refused_as_an_answer_and_as_a_truth(text):
    assert extract(f"\\boxed{{{text}}}", "number") == (None, "not_a_number")
    assert check_truth(text, "number") == "not_a_number"


@pytest.mark.parametrize("text", lines(SEVERAL))
def test_several_numbers_are_no_number(text):
    assert check_truth(text, "number") == "several_candidates"


@pytest.mark.parametrize(
    ("a", "b", "answer_type", "why"),
    [
        ("70%", "70", "number", "not_comparable"),
        ("70%", "80", "number", "wrong"),
        ("7%", "70", "number", "wrong"),
        ("70%", "0.7", "number", ""),
        ("70%", "70", "percentage", ""),
        ("0.7", "70%", "percentage", "not_comparable"),
        ("0.8", "70%", "percentage", "wrong"),
        ("5 km", "5", "number", ""),
        ("5 km", "5 kilometers", "number", ""),
        ("5 km", "5 miles", "number", "not_comparable"),
        ("$5", "5 euros", "number", "not_comparable"),
        ("$5", "5 dollars", "number", ""),
        ("5 apples", "5 fruits", "number", ""),
        ("18", "19", "number", "wrong"),
        ("3 quarters", "3", "number", "not_a_number"),
    ],
)
def test_why_two_are_not_equal(a, b, answer_type, why):
    assert difference(a, b, answer_type) == difference(b, a, answer_type) == why


@pytest.mark.parametrize(
    ("text", "truth", "answer_type", "problem"),
    [
        ("Answer: 70%", "70", "number", "not_comparable"),
        ("Answer: 10{:}45", "10:30", "math", "not_comparable"),
        ("Answer: 71", "70", "number", ""),
        (r"\boxed{\sqrt{2}}", r"\sqrt{3}", "math", ""),
    ],
)
def test_what_cannot_be_compared_is_a_problem_and_no_wrong_answer(text, truth, answer_type, problem):
    verdict = ground_truth({"text": text, "answer": truth, "answer_type": answer_type})
    assert not verdict.correct and verdict.extracted
    assert verdict.problem == problem


def test_typographic_apostrophes_in_texts():
    assert difference("Don’t know", "don't know", "text") == ""
