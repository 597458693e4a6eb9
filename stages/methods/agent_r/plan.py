"""What a row of `agent_r` asks of the model (pipeline.protocols.Plans)."""

from typing import Any

from pipeline.protocols import Asks, Work

TURN = 60  # tokens of an action and what it leads to, about
ATTEMPTS = 2  # at one judgment


def work(options: Any, samples: int, stage: str) -> Work | None:
    """Return the work of one row in a stage; `samples` are those of the evaluation."""
    o = options
    episode, played = (turns * TURN / 2 for turns in (o.depth, o.steps))  # half of one, on average
    if stage == "generate":
        return Work((Asks(most=o.simulations * o.depth, n=o.width, before=episode),))
    if stage == "critique":
        steps = min(o.pairs_per_task, o.simulations * o.width) * o.depth if o.model_judges else 0
        ask = Asks("agent_r/judge", 0, ATTEMPTS * steps, max_tokens=o.judge_tokens, before=episode)
        good = 0 if o.arm == "revision_only" else o.good_per_task
        pairs = 0 if o.arm == "good_only" else o.pairs_per_task
        return Work((ask,), 0, good + pairs)
    most = o.steps + o.free_reflections
    if stage.startswith("evaluate"):
        return Work((Asks(least=1 + samples, most=(1 + samples) * most, before=played),), 1, 1)
    if stage == "resume":
        return Work((Asks(most=most, before=played),))
    return None
