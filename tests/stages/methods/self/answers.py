"""Answers for the scripted engine, step by step of SELF.

Workers import them by name, so they are a module of their own.
"""

import os
import re
import signal
from pathlib import Path

from pipeline.engines.base import Request
from stages.answers import extract

ANIMALS = ("cows", "owls", "bees", "rams", "eels", "apes", "bats", "hens")


def numbers_of(text: str) -> tuple[int, int]:
    """Return the numbers of the last sum in a text."""
    a, b = re.findall(r"What is (\d+) \+ (\d+)\?", text)[-1]
    return int(a), int(b)


def mark(request: Request, share: int) -> int:
    """Return a number below `share` that depends on the request alone."""
    return int(request.key("")[:6], 16) % share


def answer(a: int, b: int, error: int) -> str:
    return f"{a} + {b} = {a + b + error}\nAnswer: {a + b + error}"


def skilled(request: Request, index: int) -> str:
    """Sums.

    First answers are right half the time, refined ones more often, verdicts mostly; some feedback has no
    verdict at all.
    """
    step, last = request.step, request.messages[-1]["content"]
    if step == "self/propose":
        return new_questions(request)
    a, b = numbers_of("\n".join(m["content"] for m in request.messages))
    if step in ("direct/solve", "greedy", "sampled"):
        return answer(a, b, int(request.key("")[2 * index : 2 * index + 2], 16) % 2)
    if step in ("self/refine", "self/annotate_refine"):
        return answer(a, b, mark(request, 3) == 0)
    if not mark(request, 6):
        return f"Well, {a} and {b}."
    said = last if step == "self/hinted_feedback" else request.messages[-2]["content"]
    given = extract(said.split("Note for you alone")[0], "number").answer
    right = (int(given) == a + b) != (mark(request, 5) == 0)
    if request.prefill:
        return " correct" if "all right" in request.prefill else " incorrect"
    return f"{a} + {b} is {a + b}, the answer says {given}.\nVerdict: {'correct' if right else 'incorrect'}"


def new_questions(request: Request) -> str:
    """Seven lines: two new questions, a known one, and four that cannot be used."""
    known = re.findall(r"^1\. (.*)$", request.messages[-1]["content"], re.MULTILINE)[0]
    n, animal = 7000 + mark(request, 900), ANIMALS[mark(request, len(ANIMALS))]
    return "\n".join(
        [
            f"1. {n} {animal} meet: What is {n} + {n % 9}?",
            f"2. Zoe owns {n} jars. What is {n} + {n % 5}?",
            f"3. {known}",
            "4. Why?",
            f"5. What is {n} + 1,2,3?",
            f"6. What is {n} + 4, he said",
            "7. " + "What is 3 + 4 and also " * 9 + "?",
        ]
    )


def yes_man(request: Request, index: int) -> str:
    """As `skilled`, but the critic of phase 2 finds everything correct."""
    return "It is all fine.\nVerdict: correct" if request.step == "self/feedback" else skilled(request, index)


def dies_once(request: Request, index: int) -> str:
    """As `skilled`; the first refinement that is asked for kills the process.

    Other rows' requests are under way then.
    """
    if request.step == "self/annotate_refine":
        flag = Path(re.findall(r"\[(.*?)\]", request.messages[-1]["content"])[-1])
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return skilled(request, index)
