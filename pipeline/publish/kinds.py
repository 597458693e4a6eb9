"""The kinds of published datasets: their columns, and what mixing and training need to know of each.

The schemas are frozen, because the rounds of a run are concatenated: a change of columns needs a new version.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

from pipeline.publish.schema import MESSAGES, Lineage, PublishedRow, lineage_columns
from pipeline.publish.tokens import joint_tokens, lengths_of, text_columns, turn_columns

_COMMON = ("row_id", "parent_ids", "task_id", "kind", "round", "method", "sampling")
_MEASURED = 128  # rows whose tokens are counted at once
_BLANK = {"string": "", "int32": 0, "bool": False}


@dataclass(frozen=True)
class Kind:
    """One kind of dataset: columns of content, then lineage, then token counts (`tokens_<part>`).

    The parts of a row are the `context`, without loss, and the `replies`, with loss. They are columns of
    messages that the chat template turns into tokens; a kind with other content has a function `tokens` from
    tokenizer and row to the columns of token counts (and token ids).
    """

    name: str  # the folder under datasets/
    content: Mapping[str, Any]
    lineage: tuple[str, ...]  # fields of Lineage, beside those of every kind
    replies: tuple[str, ...]
    unit: str  # what its rows are called
    form: str  # for the card
    context: str = "prompt"  # "": none
    version: int = 1
    own: Mapping[str, str] = field(default_factory=dict)  # the method's own lineage columns
    tokens: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None
    ids: tuple[str, ...] = ()  # columns of token ids, which a trainer reads in place of the parts
    flags: tuple[str, ...] = ()  # columns that a trainer reads beside the parts
    command: str = "sft"  # the TRL command that trains on it
    blocks: bool = False  # rows form one stream, cut into blocks of train.max_length tokens
    sequential: bool = False  # the trainer takes rows in the order in which they are stored
    real: str = "demonstrations"  # what rows that no model wrote are called
    counting: str = (
        "Tokens are counted with the model's chat template. TRL truncates examples longer than its "
        "`max_length` (default 1024)."
    )

    def extended(self, own: Mapping[str, str]) -> "Kind":
        """Return this kind with a method's own lineage columns (Method.lineage). Raises ConfigError."""
        lineage_columns((), own)  # raises now, not at the first row
        return replace(self, own=own)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """All columns with their types, in order (pipeline.publish.schema)."""
        counts = dict.fromkeys(self.counts.values(), "int32")
        return {**self.content, **lineage_columns((*_COMMON, *self.lineage), self.own), **counts}

    @cached_property
    def features(self) -> Any:
        """The columns as `datasets.Features`."""
        from datasets import Features  # takes a second, which stages do without

        return Features({name: _feature(type_) for name, type_ in self.columns.items()})

    @cached_property
    def blank(self) -> PublishedRow:
        """A row without any values."""
        return {name: [] if isinstance(t, list) else _BLANK[t] for name, t in self.columns.items()}

    def row(self, lineage: Lineage, **content: Any) -> PublishedRow:
        """Return a row; `measure` fills in its token counts (and token ids)."""
        values = content | lineage.columns()
        return {name: values.get(name, blank) for name, blank in self.blank.items()}

    def token_columns(self, tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return each row's token counts by column, with its token ids if the kind has them."""
        if self.tokens is not None:
            return [self.tokens(tokenizer, row) for row in rows]
        found = [lengths_of(tokenizer, [(row["prompt"], row[part]) for row in rows]) for part in self.replies]
        return [
            joint_tokens(dict(zip(self.replies, of_row, strict=True))) for of_row in zip(*found, strict=True)
        ]

    @property
    def counts(self) -> dict[str, str]:
        """The column of token counts of each part, the context first."""
        return {part: f"tokens_{part}" for part in (self.context, *self.replies) if part}

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The columns that a trainer reads."""
        return self.ids or (*self.counts, *self.flags)

    @property
    def seen(self) -> str:
        """What the trainer's examples are called."""
        return "blocks" if self.blocks else self.unit


SFT = Kind(
    "sft",
    {"prompt": MESSAGES, "completion": MESSAGES},
    ("model", "verdict", "hinted"),
    replies=("completion",),
    unit="examples",
    form="supervised examples in conversational prompt-completion form; loss falls on the completion only",
)
# The explicit-prompt conversational form of TRL.
DPO = Kind(
    "dpo",
    {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES},
    ("chosen_model", "rejected_model", "chosen_verdict", "rejected_verdict", "hinted"),
    replies=("chosen", "rejected"),
    unit="pairs",
    form="preference pairs in conversational form with an explicit prompt: two answers to one question",
    command="dpo",
)
# The unpaired form of TRL.
KTO = Kind(
    "kto",
    {"prompt": MESSAGES, "completion": MESSAGES, "label": "bool"},
    ("model", "verdict", "hinted"),
    replies=("completion",),
    unit="answers",
    form="answers in conversational prompt-completion form; `label` tells the right ones from the wrong",
    flags=("label",),
    command="kto",
    sequential=True,
)
TURNS = Kind(
    "turns",
    {
        "input_ids": ["int32"],
        "labels": ["int32"],
        "turns": [{"role": "string", "content": "string", "loss": "bool"}],
    },
    ("record", "model", "verdict"),
    replies=("loss",),
    unit="episodes",
    form="conversations of many turns, as token ids and labels; loss falls on the turns whose `loss` is true",
    context="context",
    tokens=turn_columns,
    ids=("input_ids", "labels"),
)
CPT = Kind(
    "cpt",
    {"text": "string"},
    ("model", "verdict"),
    replies=("text",),
    unit="texts",
    form="plain texts for continued pretraining; loss falls on every token",
    context="",
    tokens=text_columns,
    blocks=True,
    real="texts",
    counting="BOS and EOS are counted. Training concatenates the texts and cuts the stream into blocks.",
)
KINDS = {kind.name: kind for kind in (SFT, DPO, KTO, TURNS, CPT)}


def measure(rows: Iterable[PublishedRow], tokenizer: Any, kind: Kind = SFT) -> Iterator[PublishedRow]:
    """Yield the rows with their token counts (and token ids, if the kind has them) filled in."""
    left = iter(rows)
    while batch := list(islice(left, _MEASURED)):
        for row, columns in zip(batch, kind.token_columns(tokenizer, batch), strict=True):
            yield {**row, **columns}


def _feature(type_: Any) -> Any:
    """Return a column's type as `datasets` has it."""
    from datasets import List, Value

    if isinstance(type_, list):
        return List(_feature(type_[0]))
    if isinstance(type_, dict):
        return {name: _feature(of) for name, of in type_.items()}
    return Value(type_)
