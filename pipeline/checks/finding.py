"""One line of a diagnosis."""

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True, frozen=True)
class Finding:
    """What was found about `name`, whether it is in order, and what to do if it is not."""

    name: str
    state: Literal["ok", "warning", "problem"]
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(name, "ok", text)


def warning(name: str, text: str, advice: str) -> Finding:
    """Return a finding that a run can live with."""
    return Finding(name, "warning", text, advice)


def problem(name: str, text: str, advice: str) -> Finding:
    """Return a finding that a run will fail over."""
    return Finding(name, "problem", text, advice)
