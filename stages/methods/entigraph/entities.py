"""The entities of a document and the sets of them that are written about. Source: EntiGraph (Yang et al. 2024, arXiv 2409.07431), 2.3."""

import random
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_ARTICLE = re.compile(r"^(the|a|an)\s+")


class Extracted(BaseModel):
    """What the model is asked for: a summary and the names of the entities, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)

    summary: str = Field(min_length=1)
    entities: list[str] = Field(min_length=1)


def schema(most: int | None) -> dict[str, Any]:
    """Return the JSON schema of `Extracted` for guided decoding; the bounds keep a small model from listing for ever."""
    entities: dict[str, Any] = {
        "type": "array",
        "items": {"type": "string", "minLength": 2, "maxLength": 60},
        "minItems": 2,
    }
    return {
        "type": "object",
        "properties": {
            "summary": {"type": "string", "minLength": 1, "maxLength": 600},
            "entities": entities | ({"maxItems": most} if most else {}),
        },
        "required": ["summary", "entities"],
        "additionalProperties": False,
    }


def read(text: str) -> Extracted | str:
    """Return what a reply holds, or what is wrong with it."""
    try:
        return Extracted.model_validate_json(text)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the reply'}: {first['msg']}"


def same(entity: str) -> str:
    """Return what two names of one entity have in common: case, article, white space and a plural s do not count."""
    name = _ARTICLE.sub("", " ".join(entity.casefold().split()).strip(" .,;:\"'"))
    return name[:-1] if len(name) > 3 and name.endswith("s") and not name.endswith("ss") else name


def distinct(entities: Sequence[str]) -> list[str]:
    """Return the entities without repetitions (see `same`) and blanks, each as it was first written."""
    found = {key: " ".join(entity.split()) for entity in reversed(entities) if (key := same(entity))}
    return [found[key] for key in dict.fromkeys(same(e) for e in entities) if key]


def occurrences(entity: str, document: str) -> int:
    """Count how often a document names an entity, as whole words, whatever the case and with or without a plural s."""
    words = [re.escape(word) for word in re.findall(r"\w+", same(entity))]
    if not words:
        return 0
    return len(re.findall(r"\b" + r"\W+".join(words) + r"(?:s|es)?\b", document.casefold()))


def most_frequent(entities: Sequence[str], document: str, most: int | None) -> list[str]:
    """Return at most `most` entities, those that the document names most often, in the order they were given."""
    if most is None or len(entities) <= most:
        return list(entities)
    rank = sorted(range(len(entities)), key=lambda i: (-occurrences(entities[i], document), i))[:most]
    return [entities[i] for i in sorted(rank)]


def plan(count: int, max_pairs: int | None, max_triples: int, seed: int) -> list[tuple[int, ...]]:
    """Return the sets of `count` entities that are written about, as sorted indices: the pairs in list order, then triples in a shuffle.

    All n (n - 1) / 2 pairs, or a draw of `max_pairs`; of the triples never more than `max_triples`, as there are soon far more of
    them than pairs. The same arguments give the same plan.
    """
    rng = random.Random(seed)
    pairs = list(combinations(range(count), 2))
    if max_pairs is not None and max_pairs < len(pairs):
        pairs = sorted(rng.sample(pairs, max_pairs))
    triples = list(combinations(range(count), 3)) if max_triples else []
    return [*pairs, *rng.sample(triples, min(max_triples, len(triples)))]
