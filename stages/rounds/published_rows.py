"""From a round's rows to the rows of its dataset: examples, conversations, texts or pairs, with lineage."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from pipeline.chat import PLAIN, Chat
from pipeline.chat.check import control_token
from pipeline.config import Recipe
from pipeline.errors import ConfigError
from pipeline.methods import Example, Method, examples_of
from pipeline.protocols import WritesTexts
from pipeline.publish import KINDS, TURNS, Kind, Lineage, PublishedRow, Turn, lengths_of, surely_fit
from pipeline.rows import Dropped, Kept, Row
from pipeline.stage import DatasetStep

# Payload key: indices of a row's examples that are too long to publish; a row without any other is dropped.
TOO_LONG = "too_long_examples"
_AT_ONCE = 128  # rows whose tokens are counted at once


def published_kind(method: Method | type[Method]) -> Kind:
    """Return a method's kind of dataset, with its own lineage columns. Raises ConfigError."""
    if method.dataset not in KINDS:
        raise ConfigError(
            f"method {method.name}: its dataset is {method.dataset!r}; "
            f"expected one of {', '.join(sorted(KINDS))}."
        )
    return KINDS[method.dataset].extended(method.lineage)


def dataset_roles(recipe: Recipe, method: Method) -> tuple[str, ...]:
    """Return the roles that have a dataset each; ("",) if one dataset holds the examples of all."""
    return method.roles if recipe.train.adapters else ("",)


def dataset_name(kind: Kind, role: str = "") -> str:
    """Return the folder under datasets/ for a kind, or for a role's examples of it."""
    return f"{kind.name}-{role}" if role else kind.name


def examples(method: Method, row: Row, chat: Chat) -> list[Example]:
    """Return a row's examples, with or without thoughts as the run trains them."""
    return [
        replace(e, completion=chat.completion(e.completion, row.payload)) for e in examples_of(method, row)
    ]


def drop_too_long(method: Method, tokenizer: Any, max_length: int, chat: Chat = PLAIN) -> DatasetStep:
    """Return a step that drops rows that the trainer would truncate; here they are counted and stored.

    A row is dropped only if all its examples are too long; otherwise TOO_LONG in its payload lists those. A
    row that spells out a special token in an answer is dropped as control_token.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | Kept | None]]:
        left = iter(rows())
        while batch := list(islice(left, _AT_ONCE)):
            made = [examples(method, row, chat) for row in batch]
            texts = ["\n".join(m["content"] for e in of_row for m in e.completion) for of_row in made]
            spelled = [control_token(tokenizer, text) for text in texts]
            counted = [of_row for of_row, token in zip(made, spelled, strict=True) if not token]
            lengths = _lengths([e for of_row in counted for e in of_row], tokenizer, max_length)
            for row, of_row, token in zip(batch, made, spelled, strict=True):
                if token:
                    detail = f"an answer spells out {token}, which would end or begin a turn"
                    yield row, Dropped("control_token", detail, row.payload["text"])
                else:
                    yield row, _too_long(row, [next(lengths) for _ in of_row], max_length)

    return step


def _lengths(made: list[Example], tokenizer: Any, max_length: int) -> Iterator[int]:
    """Yield the tokens of each example; 0 where they need not be counted, as it is short."""
    short = surely_fit(tokenizer, [[*e.prompt, *e.completion] for e in made], max_length)
    others = [(e.prompt, e.completion) for e, fits in zip(made, short, strict=True) if not fits]
    lengths = map(sum, lengths_of(tokenizer, others))
    yield from (0 if fits else next(lengths) for fits in short)


def _too_long(row: Row, tokens: list[int], max_length: int) -> Dropped | Kept | None:
    """Return what becomes of a row whose examples have so many tokens."""
    long = [i for i, n in enumerate(tokens) if n > max_length]
    if long and len(long) == len(tokens):
        detail = f"{min(tokens)} tokens, train.max_length is {max_length}"
        return Dropped("too_long", detail, row.payload["text"])
    return Kept([Row(row.id, {**row.payload, TOO_LONG: long}, row.parents)]) if long else None


def published_rows(
    rows: Callable[[], Iterable[Row]],
    round_: int,
    recipe: Recipe,
    method: Method,
    role: str = "",
    chat: Chat = PLAIN,
) -> Iterator[PublishedRow]:
    """Yield the dataset rows of a round's rows, only those of `role` if there is one.

    Real is what no model wrote: round 0, and source texts published unchanged.
    """
    kind = published_kind(method)
    gives: Callable[[Row], list[Any]] = (
        method.texts if isinstance(method, WritesTexts) else lambda row: examples(method, row, chat)
    )
    for row in rows():
        real = round_ == 0 or not row.payload["model"]
        for i, item in enumerate(gives(row)):
            if i in row.payload.get(TOO_LONG, ()) or (role and item.role != role):
                continue
            sampling = getattr(item, "sampling", None) or row.payload.get("sampling", recipe.sampling.as_json)
            lineage = Lineage(
                row_id=row.id if i == 0 else f"{row.id}-{i}",
                parent_ids=row.parents,
                task_id=row.payload["task_id"],
                kind="real" if real else "synthetic",
                record=getattr(item, "record", ""),
                round=round_,
                method=method.name if round_ else "demonstration",
                own={key: row.payload[key] for key in method.lineage if row.payload.get(key)},
                model="" if real else row.payload["model"],
                sampling=None if real else sampling,
                verdict=row.payload.get("verdict"),
                hinted=bool(row.payload.get("hinted")),
            )
            yield kind.row(lineage, **_content(item, kind))


def published_judged(
    rows: Iterable[Row], round_: int, recipe: Recipe, method: Method, kind: Kind
) -> Iterator[PublishedRow]:
    """Yield the dataset rows of a round's preference pairs, or with kind KTO of its labeled answers."""
    for row in rows:
        made = row.payload
        lineage = Lineage(
            row_id=row.id,
            parent_ids=row.parents,
            task_id=made["task_id"],
            kind="synthetic",  # demonstrations have no wrong answers
            round=round_,
            method=method.name,
            sampling=made.get("sampling") or recipe.sampling.as_json,
            **{key: made[key] for key in kind.lineage},
        )
        yield kind.row(lineage, **{part: made[part] for part in kind.content})


def _content(item: Example | str, kind: Kind) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item}
    if kind.name != TURNS.name:
        return {"prompt": item.prompt, "completion": item.completion}
    loss = (*(False for _ in item.prompt), *item.learn)
    messages = zip([*item.prompt, *item.completion], loss, strict=True)
    return {"turns": [Turn(role=m["role"], content=m["content"], loss=flag) for m, flag in messages]}
