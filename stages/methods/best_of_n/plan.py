"""What a row of `best_of_n` asks of the model (pipeline.protocols.Plans)."""

from typing import Any

from pipeline.protocols import Asks, Work


def work(options: Any, stage: str) -> Work | None:
    """Return the work of one row in a stage; what the recipe's verifier asks in verify is not known here."""
    n = options.samples
    return Work((Asks(n=n),), n, n) if stage == "generate" else None
