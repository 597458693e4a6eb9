"""The entities of a document, and which sets of them to write about (EntiGraph, arXiv 2409.07431)."""

import random
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.methods.entigraph import grounding

_ARTICLE = re.compile(r"^(the|a|an)\s+")


class Extracted(BaseModel):
    """What the model is asked for: a summary and the names of the entities, nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)

    summary: str = Field(min_length=1)
    entities: list[str] = Field(min_length=1)


def schema(most: int | None) -> dict[str, Any]:
    """Return the JSON schema of `Extracted` for guided decoding; its bounds prevent endless lists."""
    name = {"type": "string", "minLength": 2, "maxLength": 60}
    entities = {"type": "array", "items": name, "minItems": 2} | ({"maxItems": most} if most else {})
    summary = {"type": "string", "minLength": 1, "maxLength": 600}
    return {
        "type": "object",
        "properties": {"summary": summary, "entities": entities},
        "required": ["summary", "entities"],
        "additionalProperties": False,
    }


def read(text: str) -> Extracted | str:
    """Parse a reply; return what is wrong with it if it is not as asked."""
    try:
        return Extracted.model_validate_json(text)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the reply'}: {first['msg']}"


def normalize(entity: str) -> str:
    """Return an entity's name without case, article, extra white space and plural s, to compare names by."""
    name = _ARTICLE.sub("", " ".join(entity.casefold().split()).strip(" .,;:\"'"))
    return name[:-1] if len(name) > 3 and name.endswith("s") and not name.endswith("ss") else name


def distinct(entities: Sequence[str]) -> list[str]:
    """Deduplicate entities (see `normalize`) and drop blank ones; each keeps its first spelling."""
    first: dict[str, str] = {}
    for entity in entities:
        if key := normalize(entity):
            first.setdefault(key, " ".join(entity.split()))
    return list(first.values())


def occurrences(entity: str, document: str) -> int:
    """Count how often a document names an entity (see `grounding`)."""
    return grounding.occurrences(normalize(entity), document)


def most_frequent(entities: Sequence[str], document: str, most: int | None) -> list[str]:
    """Return the `most` entities that the document names most often, in their original order."""
    rank = sorted(range(len(entities)), key=lambda i: (-occurrences(entities[i], document), i))
    return [entities[i] for i in sorted(rank[:most])]


def plan(count: int, max_pairs: int | None, max_triples: int, seed: int) -> list[tuple[int, ...]]:
    """Return the sets of `count` entities to write about, as sorted indices: pairs, then triples.

    All n (n - 1) / 2 pairs in list order, or a sample of `max_pairs`; at most `max_triples` shuffled triples,
    which soon outnumber pairs by far. The same arguments give the same plan.
    """
    rng = random.Random(seed)
    pairs = list(combinations(range(count), 2))
    if max_pairs is not None and max_pairs < len(pairs):
        pairs = sorted(rng.sample(pairs, max_pairs))
    triples = list(combinations(range(count), 3)) if max_triples else []
    return [*pairs, *rng.sample(triples, min(max_triples, len(triples)))]
