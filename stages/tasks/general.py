"""General conversations beside a method's own episodes, so that a model keeps what it could do before. Source: Agent-R 1.6.

The paper weighs the loss of agent data by eta = 0.2 and that of general chat by 1 - eta. Here the weights are tokens: of the tokens with
loss in each round's dataset, `agent_share` are the method's. What share really came out stands on the dataset's card.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline import registry
from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.ids import ID_CHARS, digest, unit_interval
from pipeline.publish import TURNS, Lineage, PublishedRow, Turn, measure
from stages.steps.decontaminate import HeldOut
from stages.tasks import BadRow, RawRow

RECORD = "general"


class General(BaseModel):
    """Conversations of a file: rows with a column of {role, content} messages; loss falls on every turn of the assistant."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field("jsonl", description="jsonl, parquet or hf")
    path: str
    column: str = "messages"
    agent_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the tokens with loss that are the method's own; the paper's eta",
    )


class Mixed:
    """The general conversations of one round: as many as the round's own tokens ask for, in a seeded order."""

    def __init__(
        self,
        general: General,
        seed: int,
        round_: int,
        tokenizer: Any,
        max_length: int,
        held_out: list[HeldOut],
    ) -> None:
        """Raises DataError, with file and line, for a row that is no conversation."""
        self._general, self._tokenizer, self._max_length, self._held_out = (
            general,
            tokenizer,
            max_length,
            held_out,
        )
        read = registry.resolve("source", general.source)(
            Source(source=general.source, path=general.path), seed
        )
        self._rows = {row["row_id"]: row for row in (_row(found, general, round_) for found in read)}
        self._order = sorted(self._rows, key=lambda i: (unit_interval(seed, RECORD, round_, i), i))
        self.digest = digest(sorted(self._rows))
        self.notes: list[str] = []

    def draw(self, own: int) -> list[PublishedRow]:
        """Return rows until they have the share of tokens that goes with `own` tokens of the method's."""
        wanted = own * (1 - self._general.agent_share) / self._general.agent_share
        chosen, tokens, left_out = [], 0, 0
        for row in measure((self._rows[i] for i in self._order), self._tokenizer, TURNS):
            if tokens >= wanted:
                break
            text = "\n".join(turn["content"] for turn in row["turns"])
            if len(row["input_ids"]) > self._max_length or any(
                search.leak(text, "") for search in self._held_out
            ):
                left_out += 1
                continue
            chosen.append(row)
            tokens += row["tokens_loss"]
        share = own / (own + tokens) if own + tokens else 0.0
        self.notes = [
            f"General conversations: {len(chosen)} of {len(self._rows)} in {self._general.path}, {left_out} too long or held out; the method's own share of "
            f"the {own + tokens} tokens with loss is {share:.1%}, {self._general.agent_share:.1%} was asked for"
        ]
        return chosen


def _row(found: Any, general: General, round_: int) -> PublishedRow:
    if not isinstance(found, RawRow):
        where, problem = (
            (found.where, found.problem) if isinstance(found, BadRow) else (general.path, "a repeated row")
        )
        raise DataError(f"method.general: {where}: {problem}")
    messages = found.values.get(general.column)
    if not _is_conversation(messages):
        raise DataError(
            f"method.general: {found.where}: column {general.column!r} is no conversation; expected a list of {{role, content}} messages of text, one of "
            f"them, not the first, the assistant's. There are: {', '.join(map(repr, found.values)) or 'no columns'}."
        )
    turns = [
        Turn(role=str(m["role"]), content=str(m["content"]), loss=i > 0 and m["role"] == "assistant")
        for i, m in enumerate(messages)
    ]
    row_id = digest([RECORD, round_, turns])[:ID_CHARS]
    lineage = Lineage(
        row_id=row_id,
        parent_ids=[],
        task_id=found.where,
        kind="real",
        record=RECORD,
        round=round_,
        method=RECORD,
    )
    return TURNS.row(lineage, turns=turns)


def _is_conversation(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and all(
            isinstance(m, dict)
            and m.keys() == {"role", "content"}
            and all(isinstance(v, str) for v in m.values())
            for m in messages
        )
        and any(m["role"] == "assistant" for m in messages[1:])
    )
