"""Answers for the scripted engine, step by step of ReGenesis.

Workers import them by name, so they are a module of their own.
"""

import os
import re
import signal
from pathlib import Path
from typing import NamedTuple

from pipeline.engines.base import Request
from pipeline.errors import EngineError
from tests.scripted_answers import sums


class Case(NamedTuple):
    """A path that the model gives to a question, and what becomes of it ('' when it is published)."""

    fault: int
    name: str
    truth: str
    path: str
    reason: str = ""
    options: tuple[str, ...] = ()


NUMBERS = (
    Case(3, "ten", "105", "It is near ten.\nAnswer: 10.05", "wrong_answer"),
    Case(3, "one", "15", "It is near one.\nAnswer: 1.05", "wrong_answer"),
    Case(3, "decimal", "10.05", "It is near ten.\nAnswer: 10.05"),
    Case(4, "first", "18", "We take nine away.\n\\boxed{18 - 9 = 9}\nAnswer: 18 - 9 = 9", "wrong_answer"),
    Case(4, "last", "9", "We take nine away.\nAnswer: 18 - 9 = 9"),
    Case(4, "both", "40", "Some of them.\nAnswer: 12 of 40", "several_candidates"),
    Case(5, "unmarked", "20", "I got 18 from 20 and", "no_marked_answer"),
    Case(5, "unbalanced", "20", "So it must be \\boxed{20", "unbalanced_box"),
    Case(6, "longer", "2.5", "Halve five.\nAnswer: 2.50"),
    Case(6, "shorter", "2.50", "Halve five.\nAnswer: 2.5"),
    Case(6, "percent", "0.5", "Half of it.\nAnswer: 50%"),
    Case(6, "fraction", "1/2", "Half of it.\nAnswer: \\frac12"),
    Case(7, "list", "8", "1. Take 3.\n2. Add 5.\n\nAnswer: 8"),
    Case(
        8, "totals", "4", "We have two parts.\n\nTotal: 1.5+2.5=4, in\n1. one part\n2. another\n\nAnswer: 4"
    ),
    Case(8, "steps", "6", "Step 1: take 2.\nStep 2: three times that.\n\nAnswer: 6"),
    Case(9, "layout", "7", "First:\n\n  - 3 here\n  - 4 there\n\n\n| a | b |\n| 3 | 4 |\n\nAnswer: 7"),
    Case(
        10,
        "latex",
        "0.5",
        "We take $\\frac{1}{2}$ of $\\{1\\}$, so $\\sqrt{\\frac{1}{4}}$.\n\nAnswer: \\boxed{\\frac{1}{2}}",
    ),
    Case(18, "U.S.A", "3", "There were three.\nAnswer: 3"),
)
CHOICES = (
    Case(
        1,
        "text in a box",
        "(A) cats",
        "They purr.\n\\boxed{(A) cats}\nAnswer: (A) cats",
        "",
        ("cats", "dogs"),
    ),
    Case(2, "letter", "(A) cats", "They purr.\nAnswer: A", "", ("cats", "dogs")),
    Case(2, "bracket", "(A) cats", "They purr.\nAnswer: (A)", "", ("cats", "dogs")),
    Case(
        2,
        "too much",
        "(A) cats",
        "Both.\nAnswer: (A) cats or (B) dogs",
        "several_candidates",
        ("cats", "dogs"),
    ),
    Case(2, "other", "(A) cats", "They bark.\nAnswer: B", "wrong_answer", ("cats", "dogs")),
)
BOOLEANS = (
    Case(1, "no digit", "True", "It follows.\n\\boxed{True}\nAnswer: True"),
    Case(1, "yes", "True", "It follows.\nAnswer: Yes"),
    Case(1, "no", "True", "It does not.\nAnswer: False", "wrong_answer"),
)
CASES = {case.name: case for case in (*NUMBERS, *CHOICES, *BOOLEANS)}


def cases(request: Request, index: int) -> str:
    """Give the path of the case that the question names."""
    step = request.step.rsplit("/", 1)[1]
    if step != "execute":
        return f"Look at each part of the matter ({step})."
    return CASES[re.search(r"Case <(.*?)>", request.messages[-1]["content"])[1]].path


def numbers_of(request: Request) -> tuple[int, int]:
    a, b = re.search(r"What is (-?\d+) \+ (-?\d+)\?", request.messages[-1]["content"]).groups()
    return int(a), int(b)


def _mark(request: Request, share: int) -> int:
    """A number below `share` that depends on the request alone."""
    return int(request.key("")[:6], 16) % share


def chains(request: Request, index: int) -> str:
    """Sums, without a leak.

    A path is right by its request's hash, but never where a + b is a multiple of 3, unless it is hinted.
    """
    a, b = numbers_of(request)
    step = request.step.rsplit("/", 1)[1]
    if step == "select":
        return re.findall(r"^\d+\. (.*)$", request.messages[-1]["content"], re.MULTILINE)[index % 5]
    if step.endswith("adapt"):
        return f"Put both numbers of this sum side by side (idea {5000 + _mark(request, 1000)}x)."
    if step.endswith("structure"):
        steps = "1. Write both numbers down.\n2. Add them up.\n3. Say what comes out"
        return f"{steps} ({5000 + _mark(request, 1000)}x)."
    right = step == "hinted_execute" or ((a + b) % 3 and _mark(request, 2))
    said = a + b + (0 if right else 1)
    steps = f"1. The numbers are {a} and {b}.\n2. Together they make {said} ({_mark(request, 10_000)})."
    return f"{steps}\n\nAnswer: {said}"


def leaky(request: Request, index: int) -> str:
    """As `chains`, always right, but with leaks.

    Guideline 1 is adapted, and the structure of guideline 2 is written, with the answer in it.
    Guideline 3 is adapted to nothing, and the structure of guideline 4 is blank.
    """
    a, b = numbers_of(request)
    step, text = request.step.rsplit("/", 1)[1], request.messages[-1]["content"]
    if step == "adapt":
        kind = re.search(r"kind (\d)", text)[1]
        return (
            ""
            if kind == "3"
            else f"As kind {kind} says, add both numbers."
            + (f" The answer is {a + b}." if kind == "1" else "")
        )
    if step == "structure" and "kind 4" in text:
        return " \n"
    if step == "structure":
        return f"1. Add {a} and {b}.\n2. So there are {a + b}." if "kind 2" in text else "1. Add both."
    return f"{a} and {b} are {a + b}.\nAnswer: {a + b}"


def same_selection(request: Request, index: int) -> str:
    """Every selection is the same text, so that all chains of a question ask the same.

    Each answer tells its request apart.
    """
    return "one and the same" if request.step.endswith("select") else f"reply {request.key('')}"


def dies_once(request: Request, index: int) -> str:
    """As `chains`; the first path that is asked for kills the process.

    Others of its question are under way then.
    """
    flag = Path(re.search(r"\[(.*?)\]", request.messages[-1]["content"])[1])
    if request.step.endswith("execute") and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return chains(request, index)


def refuses_hints(request: Request, index: int) -> str:
    """As `chains`, from an endpoint that does not take prompts with an answer in them."""
    if request.step.startswith("regenesis/hinted_"):
        raise EngineError("answered 400: refused")
    return chains(request, index)


def refuses_selections(request: Request, index: int) -> str:
    """As `chains`, from a model that is too short for a list of guidelines."""
    if request.step == "regenesis/select":
        raise EngineError("answered 400: too long")
    return chains(request, index)


def whole_round(request: Request, index: int) -> str:
    """As `chains`, and sums that are right half the time where the question is asked plainly."""
    return chains(request, index) if request.step.startswith("regenesis/") else sums(request, index)
