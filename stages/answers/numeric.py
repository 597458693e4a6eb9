r"""Exact values of numbers as people write them: $1,080, 50%, 2 1/2, \frac12, 1.5 \times 10^3, 7 km."""

import re
from fractions import Fraction
from typing import NamedTuple

from stages.answers.expressions import number as decimal
from stages.answers.marks import unwrap
from stages.answers.reading import Options, Reading
from stages.answers.tokens import UnreadError
from stages.answers.typography import in_latex, tidy
from stages.answers.units import SCALES, UNITS, counted, leads

MAX_NUMBER_CHARS = 1000  # below Python's limit for converting integers to text
MAX_EXPONENT = 300


class Number(NamedTuple):
    """An exact value, whether a percent sign follows it, and its unit ('': none; see units.py).

    `value` is the number before the percent sign.
    """

    value: Fraction
    percent: bool
    unit: str = ""

    @property
    def key(self) -> str:
        """The value as text, the same for 50% and 0.5."""
        return str(self.value / 100 if self.percent else self.value)


_PART = r"(?:\{ ?([-+]?) ?([0-9.,]+) ?\}|()([0-9]))"
_REWRITES = [
    (re.compile(r"\s+"), " "),
    (re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox) ?\{([^{}]*)\}"), r" \1 "),
    (
        re.compile(r"(?<![\^_{]) ?\{ ?([-+]?[0-9.,]+) ?\}(?! ?[{0-9])"),
        r" \1 ",
    ),  # the group of \color{red}{42}
    (
        re.compile(r"(?:\\times|\\cdot|\*|(?<=[0-9 ])x) ?10 ?\^ ?(?:\{ ?([-+]?[0-9]+) ?\}|([-+]?[0-9]+))"),
        r"e\1\2",
    ),
    (re.compile(r"(?<![0-9.,]) ?\b10 ?\^ ?(?:\{ ?([-+]?[0-9]+) ?\}|([-+]?[0-9]+))"), r" 1e\1\2"),
    (re.compile(r" (?=e[-+]?[0-9])"), ""),
    (re.compile(r"\\degree"), " degrees "),
    (
        re.compile(r"(?<=[A-Za-z]) ?\^ ?(?:\{ ?(-?[1-4]) ?\}|(-?[1-4]))(?![0-9])"),
        "",
    ),  # the exponent of a unit
    (re.compile(r"\*\*"), " "),
    (re.compile(r"\s+"), " "),
]
_FRACTION = re.compile(rf"\\frac ?{_PART} ?{_PART}(?![0-9])")
_CURRENCY = re.compile(r"[$€£¥]")

_DECIMAL = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3})++|[0-9]{1,2}(?:,[0-9]{2}(?=,))++,[0-9]{3})(?![0-9])(?:\.[0-9]*+)?"
    r"|[0-9]++(?:\.[0-9]*+)?|\.[0-9]++"
)
_REPEATING = (
    r"[0-9]++\.[0-9]*(?:\\(?:overline|bar|dot) ?(?:\{[0-9]+\}|[0-9])(?:[0-9]*\\dot ?(?:\{[0-9]\}|[0-9]))?"
    r"|\([0-9]+\))"
)
_NUMBER = re.compile(
    rf"(?P<sign>[-+] ?)?(?:(?P<repeating>{_REPEATING})|(?P<whole>[0-9]++) (?P<part>[0-9]++ ?/ ?[0-9]++)"
    rf"|(?P<top>{_DECIMAL})(?: ?/ ?(?P<bottom>{_DECIMAL})|[eE](?P<exponent>[-+]?[0-9]++))?)"
)
_PERCENT = re.compile(r" ?(?:%|(?:per ?cent|pct)\b\.?)", re.IGNORECASE)
_SCALE = re.compile(r" (hundred|thousand|million|billion|trillion|dozen)\b| ?(bn)\b", re.IGNORECASE)
_MONEY_SCALE = re.compile(r"([kKmMbBT]|mn|tn)\b")  # glued to an amount of money: $5k, $5m
_MONEY_SCALES = dict(k=10**3, m=10**6, mn=10**6, b=10**9, t=10**12, tn=10**12)
_ALTERNATIVES = re.compile(r"\b(?:or|and)\b|\\l?or\b|\\vee|\\pm|[,;](?! ?[0-9]{3})")


def read(text: str, options: Options, in_percent: bool = False) -> Reading:
    """Read an answer of type number. By value and without tolerance: 50% is 0.5, 1/3 is not 0.333.

    `in_percent`, 50 is 50%, and a bare 0.5 is half a percent, never a guess at 50%. Of "18 - 9 = 9" the
    number is what follows the last "="; an inequality has none, "x = 3 or x = 5" has several.
    """
    left, equals, right = text.rpartition("=")
    if equals and left.rstrip()[-1:] in ("<", ">", "!"):
        return Reading(text, problem="not_a_number")
    if re.search("[=0-9]", left) and _ALTERNATIVES.search(left):
        return Reading(text, problem="several_candidates")
    text = unwrap(right)
    number = read_number(text) if text else "empty_answer"
    if isinstance(number, str):
        return Reading(text, problem=number)
    return Reading(text, str(number.value) if in_percent else number.key)


def difference(pred: str, truth: str, in_percent: bool) -> str:
    """Return why the texts of two readable numbers are not equal: wrong or not_comparable; '' if they are.

    Only one of them in percent, with the same digits or the same value, is not comparable, and neither is the
    same number of two different units.
    """
    a, b = read_number(pred), read_number(truth)
    assert isinstance(a, Number) and isinstance(b, Number)
    values = (a.value, b.value) if in_percent else (Fraction(a.key), Fraction(b.key))
    if values[0] == values[1]:
        known = all(unit != "unit" and unit in UNITS.values() for unit in (a.unit, b.unit))
        return "not_comparable" if known and a.unit != b.unit else ""
    unclear = a.percent != b.percent and (a.value == b.value or a.key == b.key)
    return "not_comparable" if unclear else "wrong"


def read_number(text: str) -> Number | str:
    """Return the one number in `text`, or the problem: not_a_number, several_candidates, answer_too_long.

    Words and a unit may surround it ("a total of 7 apples", "$1,080 per week") where they cannot change its
    value (units.py); a second number, an operator or a variable may not. "1,08" and "1 080" are two numbers.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return "answer_too_long"
    text = in_latex(text)
    if r"\ldots" in (text := tidy(text)):
        return "not_a_number"
    text = _FRACTION.sub(_written, text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    signs = set(_CURRENCY.findall(text))
    text = _CURRENCY.sub(" ", text).strip()
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    match = _NUMBER.search(text)
    if not match:
        return "not_a_number"
    before, after = text[: match.start()], text[match.end() :]
    if after.lstrip()[:1] in ("^", "!", "_") or len(signs) > 1:
        return "not_a_number"
    if re.search("[0-9]", before + after):
        return "several_candidates"
    percent, after = _cut(_PERCENT, after)
    scale, after = _cut(_MONEY_SCALE, after) if signs else ("", after)
    if not scale:
        scale, after = _cut(_SCALE, after)
    unit = counted(after)
    if unit is None or not _joined(before, after) or not leads(before) or (value := _value(match)) is None:
        return "not_a_number"
    value *= (SCALES | _MONEY_SCALES)[scale.strip().lower()] if scale else 1
    return Number(value, bool(percent), UNITS[signs.pop()] if signs else unit)


def _written(match: re.Match[str]) -> str:
    minus = (match[1] == "-") != (match[5] == "-")
    return f" {'-' if minus else ''}{match[2] or match[4]}/{match[6] or match[8]} "


def _cut(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    match = pattern.match(text)
    return (match[0], text[match.end() :]) if match else ("", text)


def _joined(before: str, after: str) -> bool:
    """Tell whether nothing is glued to the number but a unit of two letters or more."""
    if before and before[-1] not in " (:,":
        return False
    glued = re.match(r"[^\W_]+", after)
    return not glued or (len(glued[0]) > 1 and glued[0] in UNITS)


def _value(match: re.Match[str]) -> Fraction | None:
    """Return the value of a match of _NUMBER, or None for a division by zero or an excessive exponent."""
    try:
        if match["repeating"]:
            value = decimal(match["repeating"])
        elif match["part"]:
            part = Fraction(match["part"].replace(" ", ""))
            if part >= 1:
                return None
            value = int(match["whole"]) + part
        else:
            value = _decimal(match["top"]) / _decimal(match["bottom"] or "1")
    except (ZeroDivisionError, UnreadError):
        return None
    if match["exponent"]:
        if len(match["exponent"]) > 5 or abs(int(match["exponent"])) > MAX_EXPONENT:
            return None
        value *= Fraction(10) ** int(match["exponent"])
    return -value if (match["sign"] or "").startswith("-") else value


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip("."))
