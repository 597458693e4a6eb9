"""Markdown that shows untrusted text as it is: nothing in it becomes markup, a link or a template."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.printable import one_line, printable

SHOWN = 600  # characters of a text


def code(text: str, language: str = "") -> str:
    """Return a code block, whose fence is longer than any in the text."""
    text = printable(text)
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def line(value: Any) -> str:
    """Return a value on one line, without HTML."""
    return html.escape(one_line(str(value), 1000), quote=False)


def cell(value: Any) -> str:
    """Return a value for a table or a sentence: on one line, without any markup."""
    text = html.escape(one_line(str(value), 200), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#~$])", r"\\\1", text)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; what is not text is aligned to the right."""
    cells = [[c if isinstance(c, Markup) else cell(c) for c in row] for row in rows]
    align = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, align, *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


class Markup(str):
    """Text that is Markdown already."""


def shortened(text: str) -> str:
    """Return a text's beginning, saying what is missing."""
    more = len(text) - SHOWN
    return text if more <= 0 else f"{text[:SHOWN]} ... ({more:,} more characters)"
