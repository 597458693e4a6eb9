"""What a row of `regenesis` asks of the model (pipeline.protocols.Plans)."""

from typing import Any

from pipeline.protocols import Asks, Work

HALF = 0.5  # of max_tokens: what a text is taken to need


def work(options: Any, max_tokens: int, stage: str) -> Work | None:
    """Return the work of one row in a stage; `max_tokens` is the recipe's limit of a completion."""
    if stage != "generate":
        return None
    o = options
    raw = (o.raw_per_question or len(o.guidelines)) if o.use_raw else 0
    chains, asks = o.n_selected + raw, []
    limit = {
        step: getattr(o.sampling, step).max_tokens for step in ("select", "adapt", "structure", "execute")
    }
    offered = sum(len(g.text) for g in o.guidelines.values()) // 4  # tokens, about
    if o.n_selected:
        asks.append(Asks("regenesis/select", n=o.n_selected, max_tokens=limit["select"], before=offered))
    if o.hinted_chains:
        asks.append(Asks("regenesis/select", 0, 1, o.hinted_chains, limit["select"], before=offered))
    for step, after in (("adapt", "select"), ("structure", "adapt"), ("execute", "structure")):
        before = HALF * (limit[after] or max_tokens) if after != "select" else offered / len(o.guidelines)
        most = chains + o.hinted_chains
        asks.append(Asks(f"regenesis/{step}", chains, most, max_tokens=limit[step], before=before))
    return Work(tuple(asks), chains, chains + o.hinted_chains)
