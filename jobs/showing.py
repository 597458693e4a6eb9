"""How jobs print what a model wrote: never as markup, without control characters, indented, truncated."""

import sys
from typing import Any

from rich.padding import Padding
from rich.text import Text

from pipeline.console import console
from pipeline.printable import cut, json_text, printable

CHARACTERS, LINES = 1200, 24  # of one text, unless shown in full


def show(text: str = "", indent: int = 0, style: str = "") -> None:
    """Print untrusted text. A terminal wraps long lines at their indentation; elsewhere they stay whole."""
    body = Text(printable(text), style=style)  # rich reads neither markup nor :emoji: names in a Text
    if not text:
        console.print()
    elif console.is_terminal:
        console.print(Padding(body, (0, 0, 0, indent), expand=False), soft_wrap=False)
    else:
        for line in body.split("\n", allow_blank=True):
            console.print(Text(" " * indent) + line)


def show_field(
    name: str, text: str, indent: int = 0, width: int = 10, *, full: bool = False, style: str = ""
) -> None:
    """Print a named text, with its further lines aligned under the first."""
    lines = (printable(text) if full else cut(text, CHARACTERS, LINES)).split("\n")
    for i, line in enumerate(lines):
        show(f"{name if i == 0 else '':<{width}}{line}", indent, style)


def print_json(value: Any) -> None:
    """Print a value as JSON that is safe in a terminal too."""
    sys.stdout.write(json_text(value) + "\n")
