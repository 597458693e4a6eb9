"""What the rows of a round are published as: examples, conversations of many turns, or texts, with their lineage."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.config import Recipe
from pipeline.methods import Example, Method
from pipeline.publish import (
    CPT,
    SFT,
    TURNS,
    Kind,
    PublishedRow,
    TextRow,
    Turn,
    TurnRow,
    published_row,
    text_row,
    token_lengths,
    turn_row,
)
from pipeline.rows import Dropped, Kept, Row
from pipeline.stage import DatasetStep

TOO_LONG = (
    "too_long_examples"  # payload: which of a row's examples are left out; a row without any other is dropped
)


def dataset_roles(recipe: Recipe, method: Method) -> tuple[str, ...]:
    """Return the roles that have a dataset each; ("",) where one dataset holds the examples of all."""
    return method.roles if recipe.train.adapters else ("",)


def dataset_name(kind: Kind, role: str = "") -> str:
    """Return the folder under datasets/ for a kind, or for a role's examples of it."""
    return f"{kind.name}-{role}" if role else kind.name


def fits(method: Method, tokenizer: Any, max_length: int) -> DatasetStep:
    """A step that drops what the trainer would have to cut; here it is counted and can be looked at.

    A row that gives several examples loses the long ones alone: they are noted in its payload, for the card.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | Kept | None]]:
        for row in rows():
            tokens = [sum(token_lengths(tokenizer, e.prompt, e.completion)) for e in method.examples(row)]
            long = [i for i, n in enumerate(tokens) if n > max_length]
            if long and len(long) == len(tokens):
                yield (
                    row,
                    Dropped(
                        "too_long",
                        f"{min(tokens)} tokens, train.max_length is {max_length}",
                        row.payload["text"],
                    ),
                )
            else:
                yield row, Kept([Row(row.id, {**row.payload, TOO_LONG: long}, row.parents)]) if long else None

    return step


def published_rows(
    rows: Callable[[], Iterable[Row]], round_: int, recipe: Recipe, method: Method, role: str = ""
) -> Iterator[PublishedRow | TurnRow | TextRow]:
    """Yield the rows of the method's kind of dataset that a round's rows give, to `role` alone if there is one.

    What no model wrote is real: round 0, and texts as they were found.
    """
    made, gives = _MADE[method.dataset], method.texts if method.dataset == CPT.name else method.examples
    for row in rows():
        real = round_ == 0 or not row.payload["model"]
        for i, given in enumerate(gives(row)):
            if i in row.payload.get(TOO_LONG, ()) or (role and given.role != role):
                continue
            lineage: dict[str, Any] = {
                "row_id": row.id if i == 0 else f"{row.id}-{i}",
                "parent_ids": row.parents,
                "task_id": row.payload["task_id"],
                "kind": "real" if real else "synthetic",
                "round": round_,
                "method": method.name if round_ else "demonstration",
                "model": "" if real else row.payload["model"],
                "sampling": None
                if real
                else getattr(given, "sampling", None) or row.payload.get("sampling", recipe.sampling.as_json),
                "verdict": row.payload.get("verdict"),
            }
            yield made(given, row, lineage)


def _example(given: Example, row: Row, lineage: dict[str, Any]) -> PublishedRow:
    return published_row(given.prompt, given.completion, hinted=bool(row.payload.get("hinted")), **lineage)


def _conversation(given: Example, row: Row, lineage: dict[str, Any]) -> TurnRow:
    """Make an example's messages turns with loss flags; nothing of the prompt is learnt."""
    learn = (*(False for _ in given.prompt), *given.learn)
    turns = [
        Turn(**message, loss=loss)
        for message, loss in zip([*given.prompt, *given.completion], learn, strict=True)
    ]
    return turn_row(turns, record=given.record, **lineage)


def _text(given: str, row: Row, lineage: dict[str, Any]) -> TextRow:
    return text_row(
        given, form=row.payload.get("form", ""), entities=row.payload.get("entities") or (), **lineage
    )


_MADE = {SFT.name: _example, TURNS.name: _conversation, CPT.name: _text}
