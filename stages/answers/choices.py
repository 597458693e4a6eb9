"""Readers of a choice among options, and of a truth value."""

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

from stages.answers.markup import COMMAND, unwrap, without_unseen
from stages.answers.reading import Options, Reading

_TRUTH_VALUES = {"true": "true", "yes": "true", "false": "false", "no": "false"}
TRUTH_VALUE = re.compile(r"\b(?:true|yes|false|no)\b", re.IGNORECASE)
_SO = "(?:(?:so|thus|hence|therefore),? )?"
_IT_IS = re.compile(
    _SO + r"(?:(?:it|this|that)(?: is|['\u2019]s)|the (?:final |correct )?"
    r"(?:answer|statement|claim|proposition|sentence|conclusion|result)(?: is|:)) ",
    re.IGNORECASE,
)

_LETTER, _DIGIT = "[A-Za-z]", "[0-9]{1,2}"
_IN_BRACKETS = r"[(\[{<\u3010\u300c]\s*(%s)\s*[)\]}>\u3011\u300d]"
_STOPS = r".):,;!=\-\u2192\u3002\u3001\u2012-\u2015"
_NAMED = "(?:option|choice|letter|answer)"
_LEAD_IN = re.compile(
    rf"{_SO}(?:(?:the|my|it is|it's) )*(?:(?:correct|right|best|final) )*{_NAMED}"
    rf"(?: (?:is|would be|should be))?:? (?:{_NAMED} )?|(?:it is|it's) (?:{_NAMED} )?",
    re.IGNORECASE,
)
# A letter that may be the answer, anywhere in a text: "(B)", "B.", "option B".
OPTION = re.compile(rf"{_IN_BRACKETS % _LETTER}|(?<![\w'\u2019])([B-Z]|A(?!\s+[a-z]))(?![\w'\u2019])")
# What may follow a label: punctuation, its option in brackets, a reason.
_AFTER = re.compile(
    rf"\s*(?:[{_STOPS}(\[]|$)|\s+(?:because|since|as|due to|is (?:the )?(?:correct|right|best|true))\b",
    re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"(?:^|[,/&\u3001]|\bor\b|\band\b)\s*(?:(?:option|choice)\s+)?\(?[A-Za-z]\)?(?:[.):]|\s*$)|\([B-Zb-z]\)",
    re.IGNORECASE,
)
_INNER_MARKUP = re.compile(rf"\*+|`+|\$|{COMMAND}([^{{}}]*)\}}")
_QUOTES = str.maketrans("\u2018\u2019\u02bc\u201c\u201d", "'''\"\"")  # typographic ones are typed ones
_OUTER = " \"'`*_.,;:!?\u3002\u2018\u2019\u201c\u201d\u00ab\u00bb"


def text_key(text: str) -> str:
    """Return `text` NFKC-normalized, case-folded and single-spaced, without format characters, outer quotes
    and punctuation.
    """
    plain = without_unseen(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))
    plain = " ".join(plain.translate(_QUOTES).split())
    return " ".join(plain.strip(_OUTER).split()) or plain or text


def read_boolean(text: str, options: Options) -> Reading:
    """The first word decides ("Yes, because ...", "It is true."), unless its opposite occurs as well."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split()).lower()
    lead_in = _IT_IS.match(plain)
    words = re.findall(r"[^\W_]+", plain[lead_in.end() if lead_in else 0 :])
    if not words or words[0] not in _TRUTH_VALUES:
        return Reading(text, problem="not_a_boolean")
    values = {_TRUTH_VALUES[w] for w in words if w in _TRUTH_VALUES}
    return Reading(text, values.pop()) if len(values) == 1 else Reading(text, problem="several_candidates")


def read_choice(text: str, options: Options) -> Reading:
    """A letter ("A", "(A)", "A. text", "Option A", "A because ...") or the text of just one option.

    The key is the letter. Where the options themselves are numbered ("1. text"), numbers are labels too.
    """
    label, texts = _labels(options or [])
    if len(whole := _letters(text, texts)) == 1 and label == _LETTER:
        return Reading(text, whole[0])
    plain = _without_lead_in(_INNER_MARKUP.sub(r"\1", unicodedata.normalize("NFKC", text)))
    whole = whole or _letters(plain, texts)
    letter, rest = _label(plain, label)
    if letter and texts and letter not in ascii_uppercase[: len(texts)]:
        return Reading(text, problem="unknown_option")
    if len(whole) > 1 or (whole and letter not in ("", *whole)):  # "2" of the options "1. 2" and "2. 1"
        return Reading(text, problem="several_candidates")
    if letter := letter if letter and not whole else "".join(whole) or _at_either_end(plain, label, texts):
        named = _letters(rest, texts) if rest else []
        if (named and letter not in named) or (rest and not named and _ANOTHER.search(rest)):
            return Reading(text, problem="several_candidates")
        return Reading(text, letter)
    return Reading(text, problem="several_candidates" if _ANOTHER.search(plain) else "not_a_choice")


def _without_lead_in(text: str) -> str:
    """Strip "The correct option is"."""
    before, text = "", " ".join(text.split())
    while text != before:
        before = text
        if (lead_in := _LEAD_IN.match(text)) and lead_in.end() < len(text):
            text = unwrap(text[lead_in.end() :])
    return text


def _label(text: str, label: str) -> tuple[str, str]:
    """Return the letter of the option whose label begins `text`, and what follows it; twice "" without."""
    either = f"{label}|{_LETTER}"
    match = re.match(rf"(?:{_IN_BRACKETS % either}|({either})(?!\w))(?P<rest>.*)", text, re.DOTALL)
    if not match or (match[2] and not _AFTER.match(match["rest"])):
        return "", ""
    return _as_letter(match[1] or match[2]), re.sub(rf"\A[\s{_STOPS}]+", "", match["rest"]).rstrip()


def _at_either_end(text: str, label: str, texts: Sequence[str]) -> str:
    """Return the letter in "B Venus" and "Venus (B)", if that is what option B says."""
    for pattern, letter, rest in (
        (rf"({label})\s+(.+)", 1, 2),
        (rf"(.+?)[\s,]*{_IN_BRACKETS % label}\W*", 2, 1),
    ):
        if (match := re.fullmatch(pattern, text)) and _letters(match[rest], texts) == [
            _as_letter(match[letter])
        ]:
            return _as_letter(match[letter])
    return ""


def _as_letter(label: str) -> str:
    if not label.isdecimal():
        return label.upper()
    return ascii_uppercase[int(label) - 1] if 0 < int(label) <= len(ascii_uppercase) else "?"


def _letters(text: str, keys: Sequence[str]) -> list[str]:
    """Return the letters of the options that `text` repeats."""
    wanted = text_key(unwrap(text))
    return [letter for letter, key in zip(ascii_uppercase, keys, strict=False) if key == wanted]


def _labels(options: Sequence[str]) -> tuple[str, list[str]]:
    """Return the pattern of the options' labels, and the keys of their texts without labels.

    Some datasets put A., B., ... or 1., 2., ... before all options; "A. Smith" may be a name.
    """
    shown = options[: len(ascii_uppercase)]
    for label in (_LETTER, _DIGIT):
        pairs = [re.match(rf"\(?\s*({label})\s*[.):\uff1a]\s*|({label})$", option) for option in shown]
        letters = [_as_letter(match[1] or match[2]) for match in pairs if match]
        if shown and letters == list(ascii_uppercase[: len(shown)]):
            bare = [
                option[match.end() :] or option for option, match in zip(shown, pairs, strict=True) if match
            ]
            return label, [text_key(unwrap(option)) for option in bare]
    return _LETTER, [text_key(unwrap(option)) for option in shown]
