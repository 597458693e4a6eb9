r"""Exact values of numbers as people write them: $1,080, 50%, 2 1/2, \frac12, 1.5 \times 10^3, 7 km."""

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

MAX_NUMBER_CHARS = 1000  # below Python's limit for converting integers to text
MAX_EXPONENT = 300


class Number(NamedTuple):
    """An exact value, and whether a percent sign follows it; `value` is the number before the sign."""

    value: Fraction
    percent: bool

    @property
    def key(self) -> str:
        """The value as text, the same for 50% and 0.5."""
        return str(self.value / 100 if self.percent else self.value)


# Typographic forms. No NFKC here: it would turn 5² into 52 and 2½ into 21/2.
_ASCII = {
    **{ord(c): "-" for c in "\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d"},
    **{ord(c): " " for c in "\u00a0\u2009\u202f\u2002\u2003"},
    **{0xFF10 + digit: str(digit) for digit in range(10)},
    **{ord(c): " " + unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"},
    **{ord("\u00d7"): r"\times ", ord("\u00b7"): r"\cdot ", ord("°"): " degrees "},
}

_ARGUMENT = r"\s*(?:\{([^{}]*)\}|([0-9]))"
_REWRITES = [
    (re.compile(r"\s+"), " "),
    (re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox) ?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dtc]?frac" + _ARGUMENT + _ARGUMENT), r" \1\2/\3\4 "),
    (re.compile(r" ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?(?:\{ ?([-+]?[0-9]+) ?\}|([-+]?[0-9]+))"), r"e\1\2"),
    (re.compile(r"\^ ?(?:\{ ?\\circ ?\}|\\circ)|\\degree"), " degrees "),
    (re.compile(r"(?<=[A-Za-z]) ?\^ ?(?:\{ ?-?[1-4] ?\}|-?[1-4])(?![0-9])"), ""),  # the exponent of a unit
    (re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!]) ?(?=[0-9]{3}(?![0-9]))"), ","),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\[,;:! ]|\\?[$€£¥]|\*\*|~"), " "),
    (re.compile(r"\s+"), " "),
]

_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]*+)?|\.[0-9]++"
_NUMBER = re.compile(
    rf"(?P<sign>[-+] ?)?(?:(?P<whole>[0-9]++) (?P<part>[0-9]++ ?/ ?[0-9]++)"
    rf"|(?P<top>{_DECIMAL})(?: ?/ ?(?P<bottom>{_DECIMAL})|[eE](?P<exponent>[-+]?[0-9]++))?)"
)
# Words may precede a number; words, units and light punctuation may follow it. Operators may not.
_BEFORE = re.compile(r"(?:[^\W\d_]+[:,]? )*+\(?")
_AFTER = re.compile(r"(?:[^\W\d_]|[ °²³'\u2019.,;:?()/-])*+")
_PERCENT = re.compile(r" ?(?:%|per ?cent\b)", re.IGNORECASE)
_SCALE = re.compile(r" (hundred|thousand|million|billion|trillion|dozen)\b", re.IGNORECASE)
_SCALES = dict(dozen=12, hundred=100, thousand=10**3, million=10**6, billion=10**9, trillion=10**12)
_WORD = re.compile(r"[^\W\d_]+")
_UNIT_LETTERS = frozenset("aAmgshlLWVNJKCF")  # other single letters are variables: 2x is not the number 2
_CHANGE_THE_VALUE = frozenset(
    _WORD.findall(
        "sqrt sin cos tan log ln exp pi minus negative plus times over not no or and between to squared "
        "cubed factorial half quarter third hundred thousand million billion trillion dozen"
    )
)


def read_number(text: str) -> Number | str:
    """Return the one number in `text`, or the problem: not_a_number, several_candidates, answer_too_long.

    Words and a unit may surround it ("a total of 7 apples", "$1,080 per week"); a second number, an
    operator, a variable or a word that changes the value may not. "1,08" and "1 080" are two numbers.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return "answer_too_long"
    text = text.translate(_ASCII)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip()
    number = _NUMBER.search(text)
    if not number:
        return "not_a_number"
    before, after = text[: number.start()], text[number.end() :]
    if re.search("[0-9]", before + after):
        return "several_candidates"
    percent, after = _cut(_PERCENT, after)
    scale, after = _cut(_SCALE, after)
    if not _harmless(before, after) or (value := _value(number)) is None:
        return "not_a_number"
    return Number(value * _SCALES[scale.strip().lower()] if scale else value, bool(percent))


def _cut(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    match = pattern.match(text)
    return (match[0], text[match.end() :]) if match else ("", text)


def _harmless(before: str, after: str) -> bool:
    """Tell whether the text around a number leaves its value alone."""
    if not _BEFORE.fullmatch(before) or not _AFTER.fullmatch(after) or after[:1] in ("²", "³"):
        return False
    words = _WORD.findall(before) + _WORD.findall(after)
    return not any(
        w.lower() in _CHANGE_THE_VALUE or (len(w) == 1 and w.isascii() and w not in _UNIT_LETTERS)
        for w in words
    )


def _value(number: re.Match[str]) -> Fraction | None:
    """Return the value of a match of _NUMBER, or None for a division by zero or an excessive exponent."""
    try:
        if number["part"]:
            value = int(number["whole"]) + Fraction(number["part"].replace(" ", ""))
        else:
            value = _decimal(number["top"]) / _decimal(number["bottom"] or "1")
    except ZeroDivisionError:
        return None
    if number["exponent"]:
        if len(number["exponent"]) > 5 or abs(int(number["exponent"])) > MAX_EXPONENT:
            return None
        value *= Fraction(10) ** int(number["exponent"])
    return -value if (number["sign"] or "").startswith("-") else value


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip("."))
