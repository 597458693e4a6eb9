"""The machine checks behind `doctor`. Each module has functions that yield findings."""

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True, frozen=True)
class Finding:
    """The result of one check: `name` is what was checked, `advice` what to do unless the state is ok."""

    name: str
    state: Literal["ok", "warning", "problem"]
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(name, "ok", text)


def warning(name: str, text: str, advice: str) -> Finding:
    """Return a finding that a run survives."""
    return Finding(name, "warning", text, advice)


def problem(name: str, text: str, advice: str) -> Finding:
    """Return a finding that makes a run fail."""
    return Finding(name, "problem", text, advice)
