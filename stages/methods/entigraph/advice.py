"""What is said at the start of a run whose settings do not fit the texts it asks for."""

from collections.abc import Sequence
from statistics import median

from pipeline.config import Recipe
from pipeline.rows import Row
from stages.methods.entigraph.options import EntiGraphOptions

SECTION_TOKENS = 150  # a short paragraph and its heading
SUMMARY_TOKENS, NAME_TOKENS = 150, 8
BYTES_PER_TOKEN = 4  # of UTF-8


def advice(recipe: Recipe, options: EntiGraphOptions, documents: Sequence[Row]) -> list[str]:
    """Return a line about every kind of request whose replies have too little room; `documents` are some."""
    o, needed = options, {}
    if o.arm == "entigraph":
        if o.max_entities:
            needed["entities"] = SUMMARY_TOKENS + NAME_TOKENS * o.max_entities
        if o.sections:
            needed["relation"] = SECTION_TOKENS * (4 if o.max_triples else 3)
        elif o.truncated == "drop":
            needed["relation"] = SECTION_TOKENS
    if o.arm == "rephrase" and documents:
        sizes = [len(row.payload["question"].encode(errors="replace")) for row in documents]
        needed["rephrase"] = round(median(sizes) / BYTES_PER_TOKEN)
    lines = []
    for step, tokens in needed.items():
        limit = getattr(o.sampling, step).max_tokens or recipe.sampling.max_tokens
        if limit < tokens:
            what = {"entities": "a summary and a list of entities", "relation": "a text about entities"}
            fate = "cut off and dropped" if o.truncated == "drop" or step == "entities" else "cut off"
            text = what.get(step, "a document told again")
            lines.append(
                f"{text} takes about {tokens:,} tokens, and max_tokens is {limit:,}: "
                f"many will be {fate}. Set method.sampling.{step}.max_tokens to {tokens:,} or more."
            )
    return lines
