"""Answers for the scripted engine: sums with log-probabilities. Workers import them by name."""

import re

from pipeline.engines.base import Completion, Request

SAID = (0, 0, 1, 2, 0, 3)  # what is added to the true sum, by sample: half of the answers are right
PROBABLE = (-1.0, -0.5, -2.0, -0.1, -1.5, -4.0)  # per token: the likeliest answer is wrong


def sure(request: Request, index: int) -> Completion:
    """Answer "What is a + b?"; sample i has len(SAID) + i tokens of PROBABLE[i] each."""
    a, b = (int(n) for n in re.findall(r"\d+", request.messages[-1]["content"])[:2])
    i = index % len(SAID)
    tokens = len(SAID) + i
    logprobs = [PROBABLE[i]] * tokens if request.sampling.logprobs is not None else None
    return Completion(f"{'so ' * i}\nAnswer: {a + b + SAID[i]}", "stop", 9, tokens, logprobs)


def silent(request: Request, index: int) -> Completion:
    """Answer without log-probabilities, whatever is asked for."""
    return Completion(f"Answer: {index}", "stop", 9, 2)
