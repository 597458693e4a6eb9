"""What a row of `direct` asks of the model (pipeline.protocols.Plans)."""

from typing import Any

from pipeline.protocols import Asks, Work

TOPPED_UP = 8  # requests that reach sampled_tokens: each asks for what the mean so far leaves to sample


def work(options: Any, stage: str) -> Work | None:
    """Return the work of one row in a stage."""
    if stage != "generate":
        return None
    k, budget = options.samples, options.sampled_tokens
    if not budget:
        return Work((Asks(n=k),), k, k)
    return Work((Asks(most=TOPPED_UP, n=k, total=budget),), k, max(k, budget))
