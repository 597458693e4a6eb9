"""How jobs show what a model wrote: never as markup, without control characters, indented, cut to a length."""

import sys
from typing import Any

from rich.padding import Padding
from rich.text import Text

from pipeline.console import console
from pipeline.printable import cut, json_text, printable

CHARACTERS, LINES = 1200, 24  # of one text, unless all of it is asked for


def show(text: str = "", indent: int = 0, style: str = "") -> None:
    """Print text that may come from anywhere. In a terminal long lines are wrapped at their indentation, elsewhere left whole."""
    body = Text(printable(text), style=style)  # a Text is read neither as markup nor for :emoji: names
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
    """Print a named text, its further lines under the first."""
    lines = (printable(text) if full else cut(text, CHARACTERS, LINES)).split("\n")
    for i, line in enumerate(lines):
        show(f"{name if i == 0 else '':<{width}}{line}", indent, style)


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs; it is safe in a terminal too."""
    sys.stdout.write(json_text(value) + "\n")
