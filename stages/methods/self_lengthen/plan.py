"""What a row of `self_lengthen` asks of the model (pipeline.protocols.Plans)."""

from typing import Any

from pipeline.protocols import Asks, Work

HALF = 0.5  # of max_tokens: what a text is taken to need
CALLS = 2  # of one extension: its beginning, then its ending


def work(options: Any, max_tokens: int, texts: int, stage: str, round_: int | str) -> Work | None:
    """Return the work of one row in a stage; `max_tokens` is the recipe's limit of a completion, `texts` how
    many a held-out instruction gets.
    """
    o, text = options, HALF * max_tokens
    if stage == "generate":
        tries, drafts = o.instructions * o.instruction_tries, o.instructions * o.drafts
        instruct = Asks("self_lengthen/instruct", o.instructions, tries, max_tokens=o.instruction_tokens)
        judge = Asks("self_lengthen/judge", 0, tries, max_tokens=8, before=HALF * o.instruction_tokens)
        write = Asks("self_lengthen/write", 0, drafts * o.draft_tries)
        return Work((instruct, judge, write), o.instructions, drafts)
    if stage == "critique":
        least = o.extensions * o.micro_iterations
        extend = Asks("self_lengthen/extend", least, least * o.attempts * CALLS, before=2 * text)
        return Work((extend,), o.extensions, o.extensions)
    if stage == "verify":
        most = o.demand_tries if o.demand_share else 0
        least = min(1, most) if o.demand_share == 1 else 0
        asked = Asks("self_lengthen/ask_for_length", least, most, max_tokens=o.instruction_tokens)
        return Work((asked,), 1, 1)
    if stage == "publish":  # the generator's example and the extender's
        return Work((), 0, 1 if o.arm == "drafts" else 2)
    if stage.startswith("evaluate"):
        is_base = round_ == "base" and stage == "evaluate"
        control = (Asks("self_lengthen/longer", n=texts),) if is_base else ()
        return Work((Asks(n=texts), *control), 1, 1)
    return None
