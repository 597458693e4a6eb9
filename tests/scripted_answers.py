"""Answers for the scripted engine: sums that are right about half the time, by the request's hash."""

import re

from pipeline.engines.base import Request


def sums(request: Request, index: int) -> str:
    """Answer "What is a + b?", rightly for about half of the samples."""
    text = request.messages[-1]["content"] if request.messages else request.prompt or ""
    a, b = (int(n) for n in re.findall(r"-?\d+", text)[:2])
    right = int(request.key("")[index % 24 : index % 24 + 2], 16) % 2
    return f"{a} and {b} make {a + b + 1 - right}.\nAnswer: {a + b + 1 - right}"
