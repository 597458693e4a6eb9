"""How often a document names an entity, in any language.

A language without spaces, or with particles at its names, has no whole words to look for; one that inflects
its names has no fixed ones. In English both sides are whole words, plurals aside.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

# Scripts without spaces between words, in runs; and Korean, whose particles follow a name without one.
_JOINED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_KOREAN = "\u1100-\u11ff\uac00-\ud7af"
_RUN = re.compile(f"[{_JOINED}]+|[{_KOREAN}]+|[^ {_JOINED}{_KOREAN}]+")
_BETWEEN_JOINED = re.compile(f"(?<=[{_JOINED}]) (?=[{_JOINED}])")
_ENGLISH = re.compile(r" (?:the|of|and)(?= )")
_ENGLISH_SHARE = 0.04  # of the words of an English text are these; in prose about 0.12
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u0640\u064b-\u065f\u0670]")


class _Script(NamedTuple):
    """How words of a script change: what may precede them without a space (articles, prepositions), what
    inflection replaces at their ends, and how many letters may follow what is left.
    """

    letter: re.Pattern[str]
    before: str
    ending: re.Pattern[str]
    longest: int


_SCRIPTS = (
    _Script(re.compile("[a-z]"), "", re.compile("[aeiouy]$"), 4),
    _Script(
        re.compile("[\u0370-\u03ff]"),
        "",
        re.compile("[\u03b1\u03b5\u03b7\u03b9\u03bf\u03c5\u03c9]{1,2}\u03c3?$"),
        3,
    ),
    _Script(
        re.compile("[\u0400-\u052f]"),
        "",
        re.compile("[\u0430\u0435\u0438\u043e\u0443\u044a\u044b\u044c\u044d\u044e\u044f\u0456]{1,2}$"),
        3,
    ),
    _Script(re.compile("[\u10d0-\u10ff]"), "", re.compile("[\u10d0\u10d4\u10d8\u10dd\u10e3]$"), 4),
    _Script(
        re.compile("[\u0590-\u05ff]"),
        "[\u05d5\u05d4\u05d1\u05db\u05dc\u05de\u05e9]{0,3}",
        re.compile("\u05d4$"),
        3,
    ),
    _Script(
        re.compile("[\u0600-\u06ff]"),
        "[\u0648\u0641\u0628\u0643\u0644\u0633]{0,2}(?:\u0627\u0644|\u0644)?",
        re.compile("[\u0629\u0647\u0649\u064a]$"),
        3,
    ),
)
# Scripts of India and others, with long endings and signs for vowels that count as letters here.
_OTHER_SCRIPT = _Script(re.compile(""), "", re.compile("(?!)"), 8)
_ARABIC_ARTICLE = "\u0627\u0644"
SHORTEST_STEM = 3  # letters; a word without so many in its stem is looked for as it is
SHORT_ENDING = 2  # letters after a stem of that length


def occurrences(name: str, document: str) -> int:
    """Count how often a document names `name` (see entities.normalize), in any case.

    Chinese, Japanese, Thai and similar scripts, and Korean: wherever its characters stand. Other words: from
    the start of a word, with another ending of limited length; in an English document whole words alone, with
    or without a plural s.
    """
    runs = _fold(name).split()
    if not runs:
        return 0
    text, english = _prepared(document)
    beside = any(len(_stem(run)) > SHORTEST_STEM for run in runs if not _is_joined(run))
    pattern, before = "", None
    for run in runs:
        joined = _is_joined(run)
        both = joined and before is not None and _is_joined(before)
        pattern += "" if joined and before is None else " ?" if both else " "
        pattern += re.escape(run) if joined else _word(run, english, beside)
        before = run
    return len(re.findall(pattern, text))


def _is_joined(run: str) -> bool:
    return re.match(f"[{_JOINED}{_KOREAN}]", run) is not None


def _script(word: str) -> _Script:
    return next((script for script in _SCRIPTS if script.letter.match(word)), _OTHER_SCRIPT)


def _stem(word: str) -> str:
    return _script(word).ending.sub("", word.removeprefix(_ARABIC_ARTICLE))


def _word(word: str, english: bool, beside: bool) -> str:
    """Return the pattern of a word that begins after a space, up to the space at its end; `beside` one that
    is long enough, a short word may change in all but its first letter.
    """
    script, stem = _script(word), _stem(word)
    exact = f"{script.before}{re.escape(word)}(?:s|es)?(?= )"
    if english and script is _SCRIPTS[0]:
        return exact
    longest = script.longest
    if len(stem) <= SHORTEST_STEM and beside and word.isalpha():
        stem = stem[:1]
    elif len(stem) < SHORTEST_STEM:
        return exact
    elif len(stem) == SHORTEST_STEM:
        longest = SHORT_ENDING
    return f"{script.before}{re.escape(stem)}[^ ]{{0,{longest}}}(?= )"


@lru_cache(maxsize=64)
def _prepared(document: str) -> tuple[str, bool]:
    """Return a document as `_fold` leaves it, and whether it is English."""
    text = f" {_fold(document)} "
    english = len(_ENGLISH.findall(text)) >= _ENGLISH_SHARE * len(text.split())
    return text, english


def _fold(text: str) -> str:
    """Return runs of one kind of script, apart by single spaces: letters, marks and digits without case,
    accents and width.
    """
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold()))
    text = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    text = _BETWEEN_JOINED.sub("", " ".join(text.split()))
    return " ".join(_RUN.findall(text))
