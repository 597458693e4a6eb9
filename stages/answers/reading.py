"""What a reader makes of an answer's text."""

from collections.abc import Sequence
from typing import NamedTuple

Options = Sequence[str] | None


class Reading(NamedTuple):
    """An answer's own text, with either its key or the problem with it."""

    text: str
    key: str = ""
    problem: str = ""
