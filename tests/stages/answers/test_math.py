# ruff: noqa: RUF001  (signs that look like others are the subject)
"""Mathematical answers: what is equal, what is wrong, what is neither, and how long it takes."""

import time

import pytest

from stages.answers import algebra, difference, equal, normalized, symbolic
from stages.answers.symbolic import MAX_CHARS

EQUAL = r"""
0.\overline{6} ~ \frac23
0.(6) ~ 2/3
0.1\dot{6} ~ \frac16
0.\dot14285\dot7 ~ \frac17
2√3 ~ 2\sqrt3
√12 ~ 2\sqrt{3}
∛8 ~ 2
sqrt(2)/2 ~ \frac1{\sqrt{2}}
\frac{\sqrt{6}+\sqrt{2}}{4} ~ \cos 15^\circ
\cos(2\pi/5) ~ \frac{\sqrt5-1}{4}
\frac{10!}{7!3!} ~ \binom{10}{3}
\frac{52!}{4!48!} ~ \binom{52}{4}
\frac{(n+1)!}{n!} ~ n+1
\binom{n}{2} ~ \frac{n(n-1)}{2}
e^{i\pi} ~ -1
i^2 ~ -1
\sqrt[3]{-8} ~ -2
|-3| ~ 3
(x+1)^2 ~ x^2+2x+1
\frac{x^2-1}{x-1} ~ x+1
\sin 2x ~ 2\sin x\cos x
\sin^2 x+\cos^2 x ~ 1
\tan x ~ \frac{\sin x}{\cos x}
x^{1/3} ~ \sqrt[3]{x}
30\sqrt{7}x^{3/2} ~ 30x\sqrt{7x}
\ln 8 ~ 3\ln 2
\log 8 ~ 3\log 2
\log_2 8 ~ 3
2-\frac{1}{\mathrm{e}} ~ 2-e^{-1}
x**2 ~ x^2
\frac{5mg}{8k} ~ \frac58\cdot\frac{mg}{k}
x = 3 ~ 3
3 = x ~ 3
x = \frac64 = \frac32 ~ 1.5
18-9=9 ~ 9
f(x)=2x ~ 2x
y=2x+3 ~ 2x+3
y=2x+3 ~ 2x-y+3=0
2x+3y=5 ~ 4x+6y=10
I=\frac25MR^2 ~ \frac{2}{5}MR^2=I
AB=5 ~ 5
\angle ABC = 30^\circ ~ 30
x=1 \text{ or } x=2 ~ x=2, x=1
x=1 or x=2 ~ 2,1
x\in\{1,2\} ~ 1,2
x = 2\pm\sqrt5 ~ 2-\sqrt5, 2+\sqrt5
\pm2 ~ 2,-2
x=2,y=3 ~ y=3 \text{ and } x=2
\{1,2\} ~ \{2,1\}
\left\{ 1, 2 \right\} ~ {2,1}
\emptyset ~ \{\}
(1,2),(3,4) ~ (3,4), (1,2)
\left( 1, 2 \right) ~ (1,2)
\left(0, \frac12\right] ~ (0,0.5]
[1,2]\cup[3,4] ~ [3,4]\cup[1,2]
x>3 ~ (3,\infty)
1\geq x ~ x \leq 1
-1 \le x < 1 ~ [-1,1)
x<1 or x>2 ~ (-\infty,1)\cup(2,\infty)
a<b ~ b>a
x≠3 ~ x \neq 3
\begin{pmatrix}1\\2\end{pmatrix} ~ \begin{bmatrix}1\\2\end{bmatrix}
50\% ~ \frac12
33\frac13\% ~ \frac13
10 \% ~ 10 percent
90° ~ 90^{\circ}
90^\circ ~ 90
180^\circ ~ \pi
1,000 ~ 1000
1{,}000 ~ 1000
1\,000\,000 ~ 10^6
70,000 ~ 70000
2\frac12 ~ \frac52
-2 1/2 ~ -2.5
½ ~ 0.5
1.5\times10^3 ~ 1500
3×10⁴ ~ 30000
1.5e3 ~ 1500
5\text{ cm} ~ 5
5 \text{ cm} ~ 5\,\mathrm{cm}
5 cm ~ 5\text{ centimeters}
4\text{ cm}^2 ~ 4\text{ square centimeters}
9.8\ \mathrm{m/s^2} ~ 9.8
\$18 ~ 18\text{ dollars}
\$5 million ~ 5000000
\$5bn ~ 5\text{ billion dollars}
2516_8 ~ 2516_{8}
it’s ~ it's
\text{No solution} ~ no solution.
\text{Yes} ~ yes
n \equiv 3 \pmod 4 ~ n\equiv3\pmod{4}
9^{9^{9}} ~ 9^{9^9}
\left(\frac{1}{2}\right)^3 ~ \dfrac18
\boxed{5} ~ 5
\color{red}{5} ~ 5
−３ ~ -3
"""

# Read whole on both sides, and different.
WRONG = r"""
\frac{52!}{4!48!} ~ \frac{52!}{5!47!}
\frac{3^{41}}{4^{40}} ~ \frac{3^{40}}{4^{40}}
1.05\times10^{-34}\text{ J s} ~ 6.63\times10^{-34}\text{ J s}
2-\frac{1}{\mathrm{e}} ~ 2+\frac{1}{\mathrm{e}}
I=\frac25MR^2 ~ I=\frac12MR^2
0.\overline{6} ~ 0
0.333 ~ 1/3
3.14159265358979 ~ \pi
1.41421356237309504880168872420969807856967187537694 ~ \sqrt2
10^{-40} ~ 10^{-41}
10^{-7} ~ 0
e^{-1000} ~ 0
10^{400}+1 ~ 10^{400}
\sqrt{10^{400}+1} ~ 10^{200}
2^{500}\sqrt2 ~ 2^{500}\sqrt2+1
x+10^{-50} ~ x
\sin(x+10^{-60}) ~ \sin x
x^{1000} ~ x^{1001}
x=3 ~ y=3
x=1 or x=2 ~ x=2
x=1 or x=2 ~ 2
x=1,y=2 ~ x=2,y=1
1,1,2 ~ 1,2
(1,2) ~ (2,1)
[1,2] ~ (1,2)
\{1,2\} ~ \{1,3\}
x>3 ~ x\ge3
x>3 ~ x<3
3<x<5 ~ 3<x<6
2x+3y=5 ~ 2x+3y=6
y=x^2 ~ x=y^2
\pm 2 ~ 2
i ~ -i
e ~ i
\infty ~ -\infty
\begin{pmatrix}1&2\\3&4\end{pmatrix} ~ \begin{pmatrix}1&2\\3&5\end{pmatrix}
70\% ~ 80
5\text{ km} ~ 6\text{ km}
\$5 ~ \$6
\$5bn ~ 5
101_2 ~ 110_2
\alpha ~ a
x_1 ~ x_2
A ~ B
Evelyn ~ Angela
stop ~ post
\text{cat} ~ \text{act}
Yes ~ No
\text{odd} ~ \text{even}
"""

# Not surely equal and not surely different: the texts differ, and one has no certain meaning, or two of them.
NOT_COMPARABLE = r"""
7 \text{ hours } 45 \text{ minutes} ~ 7 \text{ hours } 30 \text{ minutes}
7 \text{ hours } 45 \text{ minutes} ~ 7
n \equiv 3 \pmod 4 ~ n \equiv 1 \pmod 4
7 \pmod 9 ~ 7
10{:}45 ~ 10{:}30
3:4 ~ 3/4
y=2x+4 \quad (x>0) ~ y=2x+3 \quad (x>0)
\begin{cases} x & x>0 \\ 0 & x\le 0\end{cases} ~ \begin{cases} 2x & x>0 \\ 0 & x\le 0\end{cases}
\exists x>0 ~ \forall x>0
\frac{dy}{dx}=3x ~ \frac{dy}{dx}=2x
\frac{dy}{dx} ~ \frac{y}{x}
y'=2x ~ y=2x
\frac{\partial f}{\partial x} ~ \frac{f}{x}
\int x dx ~ xdx
\sum_{i=1}^n i ~ i
100\text{ m} ~ 100\text{ cm}
5\text{ cm}^2 ~ 5\text{ cm}^3
(5\text{ cm}, 3\text{ cm}) ~ (5,3)
5\text{ apples} ~ 5\text{ oranges}
20^\circ\text{C} ~ 20^\circ\text{F}
\$5 ~ €5
\text{on} ~ \text{no}
AB ~ BA
70\% ~ 70
2516_8 ~ 2516
101_2 ~ 5
9^{9^{9}} ~ 7
10^{10^{10}} ~ 10^{10^{11}}
100000! ~ 99999!
\frac{1}{0} ~ \infty
0^0 ~ 1
0.333\ldots ~ 0.333
~5 ~ 5
\approx 3.14 ~ 3.14
3 \text{ quarters} ~ 3
3\times 4 matrix ~ 12
1^{st} ~ 1
5\text{th} ~ 5
\text{twice } 5 ~ 5
5 \text{ or more} ~ 5
12\text{ a.m.} ~ 12
3\text{ remainder }2 ~ 3
f(1)+f(2) ~ f(3)
f(2) ~ 2f
\overline{AB} ~ AB
\vec{a} ~ a
p\land q ~ p\lor q
x<1\text{ or }x>2 ~ x<1\text{ and }x>2
\{x|x>3\} ~ (3,\infty)
\mathbb{R}\setminus\{0\} ~ \mathbb{R}
2k\pi, k\in\mathbb{Z} ~ 2k\pi
1/2x ~ x/2
\sin x/2 ~ \frac{\sin x}{2}
2^3^2 ~ 64
3!! ~ 6!
\frac123 ~ \frac1{23}
5mg ~ 5\text{ mg}
\sqrt{x^2} ~ x
\ln(x^2) ~ 2\ln x
\log 100 ~ 2
\log 2 ~ \ln 2
1,2 ~ (1,2)
100, 200 ~ 100,200
(1,000) ~ (1000)
[1,000] ~ [1,0]
x=1,y=2 ~ (1,2)
\begin{pmatrix}1\\2\end{pmatrix} ~ (1,2)
no solution ~ 5
1 2 ~ 12
0 .5 ~ 0.5
2. 25 ~ 2.25
"""


def pairs(table: str) -> list[tuple[str, ...]]:
    return [tuple(line.rsplit(" ~ ", 1)) for line in table.splitlines() if line]


@pytest.mark.parametrize(("a", "b"), pairs(EQUAL))
def test_equal_both_ways(a, b):
    assert difference(a, b, "math") == difference(b, a, "math") == ""


@pytest.mark.parametrize(("a", "b"), pairs(WRONG))
def test_wrong_both_ways(a, b):
    assert difference(a, b, "math") == difference(b, a, "math") == "wrong"


@pytest.mark.parametrize(("a", "b"), pairs(NOT_COMPARABLE))
def test_not_comparable_both_ways(a, b):
    assert difference(a, b, "math") == difference(b, a, "math") == "not_comparable"


@pytest.mark.parametrize(("a", "b"), pairs(WRONG + NOT_COMPARABLE))
def test_votes_merge_nothing_that_differs(a, b):
    named = {a, b} == {"x=3", "y=3"}  # for votes, what a variable is said to be is its value
    assert (normalized(a, "math") == normalized(b, "math")) == named


@pytest.mark.parametrize(
    "pair",
    [
        "(x+1)^2 ~ x^2+2x+1",
        r"2\sqrt3 ~ \sqrt{12}",
        r"\sin 2x ~ 2\sin x\cos x",
        "x=1 or x=2 ~ 2,1",
        r"90^\circ ~ 90",
        r"\frac{52!}{4!48!} ~ 270725",
        "x>3 ~ (3,∞)",
    ],
)
def test_votes_merge_equal_values_in_different_forms(pair):
    a, b = pair.split(" ~ ")
    assert normalized(a, "math") == normalized(b, "math")


# ---- bounds ----

HOSTILE = [
    "9^{9^{9}}",
    "9^{999999999}",
    "10^{10^{10}}",
    "2^{59999}+1",
    "(x+1)^{99999}",
    "x^{x^{x^{x}}}",
    "100000!",
    "(((10!)!)!)!",
    r"\binom{9999}{5000}\binom{9998}{5000}",
    "e^{e^{e^{e}}}",
    r"\sin(10^{1000})",
    "1e99999",
    "0.(" + "1" * 900 + ")",
    "1" * 990,
    "(" * 499 + ")" * 499,
    "{" * 499 + "1" + "}" * 499,
    r"\sqrt{" * 160 + "2" + "}" * 160,
    r"\frac{1}{1+" * 80 + "x" + "}" * 80,
    "x" * MAX_CHARS,
    "+".join(f"\\sin(x^{{{n}}})" for n in range(70)),
    "*".join("(x+y+z)^{99}" for _ in range(70)),
    "+".join(r"n!" for _ in range(300)),
    ",".join(r"\sqrt{2}^{\sqrt{3}}" for _ in range(50)),
    "=" * 500,
    "|" * 500,
    "-" * 500 + "1",
    "\\" * 999,
    "1," * 499,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_time_is_bounded(text):
    start = time.process_time()
    assert equal(text, text, "math")
    difference(text, text + "1", "math")
    normalized(text, "math")
    assert time.process_time() - start < 3


def test_the_median_new_pair_takes_a_few_milliseconds():
    for cached in (symbolic._difference, symbolic._read, algebra.fingerprint, algebra.magnitude):
        cached.cache_clear()
    times = []
    for a, b in pairs(EQUAL + WRONG):
        start = time.process_time()
        difference(a, b, "math")
        times.append(time.process_time() - start)
    assert sorted(times)[len(times) // 2] < 0.02
