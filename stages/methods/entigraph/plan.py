"""What a row of `entigraph` asks of the model (pipeline.protocols.Plans)."""

from math import comb
from typing import Any

from pipeline.protocols import Asks, Work

STYLES = 3  # of rephrasings
ENTITIES = 60  # of a document, at most, where the recipe sets no limit


def work(options: Any, stage: str) -> Work | None:
    """Return the work of one row in a stage."""
    o = options
    if stage == "critique":
        judged = Asks("entigraph/judge", int(o.faithfulness == 1), int(o.faithfulness > 0))
        return Work((judged._replace(max_tokens=o.sampling.judge.max_tokens, before=200),))
    if stage != "generate":
        return None
    if o.arm == "raw":
        return Work((), 1, 1)
    if o.arm == "rephrase":
        texts = STYLES * o.rephrasings
        return Work(
            (Asks("entigraph/rephrase", texts, texts, max_tokens=o.sampling.rephrase.max_tokens),),
            texts,
            texts,
        )
    names = o.max_entities or ENTITIES
    pairs = comb(names, 2) if o.max_pairs is None else min(o.max_pairs, comb(names, 2))
    sets = pairs + min(o.max_triples, comb(names, 3))
    asks = (
        Asks("entigraph/entities", 1, o.entity_attempts, max_tokens=o.sampling.entities.max_tokens),
        Asks("entigraph/relation", 0, sets, max_tokens=o.sampling.relation.max_tokens),
    )
    return Work(asks, 0, sets + o.summary)
