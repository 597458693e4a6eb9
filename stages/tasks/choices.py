"""Options of a multiple-choice question in the forms that data sets have, and which of them is the answer."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from stages.answers import normalized
from stages.tasks.columns import from_json
from stages.tasks.records import UnusableError
from stages.tasks.texts import is_blank, json_type, text_of

TEXTS, LABELS = ("text", "texts", "choices", "options"), ("label", "labels", "key", "keys")

_LABEL = re.compile(r"(?:^|(?<=[\s,;|]))[\[(]?\s?([A-Za-z]|\d{1,2})\s?[\]).:\uff0e\u3001\uff1a]\s*")
_WHOLE = re.compile(r"(\d{1,6})(?:\.0+)?")
_LETTER = re.compile(r"\(?([A-Za-z])[).]?")


class Choices(NamedTuple):
    """The texts of the options, and the labels that the data set gives them, if any."""

    texts: list[str]
    labels: list[str] | None = None


def read_options(value: Any, columns: str | Sequence[str] | None) -> Choices | None:
    """Return the options in a value, or in one value for each of several `columns`. Raises UnusableError."""
    if isinstance(columns, list | tuple):
        while value and is_blank(value[-1]):  # questions with fewer options leave the last columns empty
            value = value[:-1]
        names = [column.rsplit(".", 1)[-1] for column in columns][: len(value)]
        choices = Choices(value, names if all(len(name) == 1 for name in names) else None)
    else:
        if is_blank(value):
            return None
        value = from_json(value) if isinstance(value, str) else value
        choices = _divided(value) if isinstance(value, str) else _from_nested(value)
    texts = [text_of(text, f"option {i}") for i, text in enumerate(choices.texts, 1)]
    if len(texts) < 2:
        raise UnusableError(f"a choice among {len(texts)} options; expected two or more")
    if len(texts) > len(ascii_uppercase):
        raise UnusableError(
            f"a choice among {len(texts)} options; at most {len(ascii_uppercase)} have letters"
        )
    if choices.labels is None:
        return Choices(texts)
    labels = [text_of(label, f"the label of option {i}").strip() for i, label in enumerate(choices.labels, 1)]
    if len(labels) != len(texts) or len(set(labels)) < len(labels):
        raise UnusableError(f"{len(texts)} options have the labels {labels}; expected a label for each")
    return Choices(texts, labels)


def as_letter(answer: str, choices: Choices | None, answer_is: str | None) -> str:
    """Return the answer of a choice as a letter, where its form has to be told or the labels say it.

    Otherwise it is returned as it is. Raises UnusableError for a number of which nothing says what it means,
    and for an answer that is none of the options.
    """
    texts, labels = choices or Choices([])
    given = answer.strip()
    number = _WHOLE.fullmatch(given)
    if labels and answer_is is None and given in labels:
        return ascii_uppercase[labels.index(given)]
    if number and texts and answer_is is None:
        raise UnusableError(
            f"the answer {given} may be the index of an option, from 0 or from 1, or its text; "
            "set answer_is: index0, index1 or text"
        )
    if number and answer_is in ("index0", "index1"):
        index = int(number[1]) - (answer_is == "index1")
        if not 0 <= index < (len(texts) or len(ascii_uppercase)):
            raise UnusableError(f"the answer {given} is no index of {len(texts)} options ({answer_is})")
        return ascii_uppercase[index]
    if answer_is == "text":
        alike = [i for i, text in enumerate(texts) if text.strip() == given]
        alike = alike or [i for i, text in enumerate(texts) if _key(text) == _key(given)]
        if len(alike) != 1:
            raise UnusableError(
                f"the answer {given[:80]!r} is the text of {len(alike)} options; expected one"
            )
        return ascii_uppercase[alike[0]]
    if answer_is is not None:
        letter = _LETTER.fullmatch(given)
        if not letter or (texts and letter[1].upper() not in ascii_uppercase[: len(texts)]):
            last = ascii_uppercase[len(texts) - 1]
            raise UnusableError(f"the answer {given[:80]!r} is no letter from A to {last} ({answer_is})")
        return letter[1].upper()
    return answer


def check_twins(choices: Choices | None, truths: Sequence[str]) -> None:
    """Raise UnusableError if two options are the same and one of them is, or may be, the right one."""
    texts = choices.texts if choices else []
    twins = {text for i, text in enumerate(texts) if text in texts[:i]}
    letters = [truth for truth in truths if truth in ascii_uppercase[: len(texts)]]
    right = {texts[ascii_uppercase.index(letter)] for letter in letters if letter}
    if twins and (len(letters) < len(truths) or not truths or twins & right):
        raise UnusableError(f"the option {min(twins)[:80]!r} occurs twice")


def _from_nested(value: Any) -> Choices:
    if isinstance(value, Mapping):
        texts, labels = (
            next((value[k] for k in keys if _is_list(value.get(k))), None) for keys in (TEXTS, LABELS)
        )
        if texts is not None:
            return Choices(list(texts), list(labels) if labels is not None else None)
        there = {label: text for label, text in value.items() if not is_blank(text)}
        return Choices(list(there.values()), list(there))
    if not _is_list(value):
        raise UnusableError(f"the options are {json_type(value)}; expected a list of texts")
    if value and all(isinstance(item, Mapping) for item in value):
        texts, labels = ([_first(item, keys) for item in value] for keys in (TEXTS, LABELS))
        return Choices(texts, labels if any(label is not None for label in labels) else None)
    return Choices(list(value))


def _divided(text: str) -> Choices:
    """Divide one text: at labels in their order, or at line ends or bars."""
    cuts: list[re.Match[str]] = []
    for match in _LABEL.finditer(text):
        if match[1] == (_after(cuts[-1][1]) if cuts else match[1]) and (cuts or match[1] in ("A", "a", "1")):
            cuts.append(match)
    if len(cuts) > 1 and not text[: cuts[0].start()].strip():
        ends = [*(cut.start() for cut in cuts[1:]), len(text)]
        texts = [text[cut.end() : end].strip(" \t\r\n,;|") for cut, end in zip(cuts, ends, strict=True)]
        return Choices(texts, [cut[1] for cut in cuts])
    parts = [part.strip() for part in (text.splitlines() if "\n" in text.strip() else text.split("|"))]
    if len(parts := [part for part in parts if part]) > 1:
        return Choices(parts)
    raise UnusableError(
        f"the options {text[:80]!r} cannot be divided; expected a list of texts, an object, "
        'JSON of either, or one text such as "A) yes B) no"'
    )


def _after(label: str) -> str:
    return str(int(label) + 1) if label.isdecimal() else chr(ord(label) + 1)


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if key in item), None)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _key(text: str) -> str:
    return normalized(text, "text")
