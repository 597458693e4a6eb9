"""General conversations beside a method's own episodes, to preserve the model's other abilities.

Agent-R (arXiv 2501.11425) weights the loss of agent data by eta = 0.2 and that of general chat by 1 -
eta. Here the weights are tokens: `agent_share` of each round's tokens with loss are the method's. The
dataset's card reports the share that resulted.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline import registry
from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.ids import ID_CHARS, digest, unit_interval
from pipeline.publish import TURNS, Lineage, PublishedRow, Turn, measure
from stages.steps.decontaminate import HeldOut
from stages.tasks import BadRow, RawRow, chats
from stages.tasks.records import UnusableError

RECORD = "general"


class General(BaseModel):
    """A file of conversations: a column of {role, content} messages (or {from, value}), with loss on the
    assistant's turns."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field("jsonl", description="jsonl, parquet or hf")
    path: str
    column: str = "messages"
    agent_share: float = Field(
        0.2, gt=0, lt=1, description="the method's own share of the tokens with loss; the paper's eta"
    )


class Mixed:
    """The general conversations of one round, as many as its own tokens call for, in a seeded order."""

    def __init__(
        self,
        general: General,
        seed: int,
        round_: int,
        tokenizer: Any,
        max_length: int,
        held_out: list[HeldOut],
    ) -> None:
        """Raises DataError, with file and line, for a row that is not a conversation."""
        self._general, self._tokenizer = general, tokenizer
        self._max_length, self._held_out = max_length, held_out
        self._rows = {row["row_id"]: row for row in conversations(general, seed, round_)}
        self._order = sorted(self._rows, key=lambda i: (unit_interval(seed, RECORD, round_, i), i))
        self.digest = digest(sorted(self._rows))
        self.notes: list[str] = []

    def draw(self, own: int) -> list[PublishedRow]:
        """Return rows until they have the share of tokens that goes with `own` tokens of the method's."""
        agent_share = self._general.agent_share
        wanted = own * (1 - agent_share) / agent_share
        chosen, tokens, left_out = [], 0, 0
        for row in measure((self._rows[i] for i in self._order), self._tokenizer, TURNS):
            if tokens >= wanted:
                break
            text = "\n".join(turn["content"] for turn in row["turns"])
            if len(row["input_ids"]) > self._max_length or any(s.leak(text, "") for s in self._held_out):
                left_out += 1
                continue
            chosen.append(row)
            tokens += row["tokens_loss"]
        share = own / (own + tokens) if own + tokens else 0.0
        self.notes = [
            f"General conversations: {len(chosen)} of {len(self._rows)} in {self._general.path}, {left_out} "
            f"too long or held out; {share:.1%} of the {own + tokens} tokens with loss are the method's own "
            f"(agent_share: {agent_share:.1%})"
        ]
        return chosen


def conversations(general: General, seed: int, round_: int = 0) -> Iterator[PublishedRow]:
    """Yield the conversations as rows of a round. Raises DataError for a row that is none."""
    source = Source(source=general.source, path=general.path)
    for record in registry.resolve("source", general.source)(source, seed):
        yield _row(record, general, round_)


def _row(record: Any, general: General, round_: int) -> PublishedRow:
    if not isinstance(record, RawRow):
        bad = isinstance(record, BadRow)
        where, problem = (record.where, record.problem) if bad else (general.path, "a repeated row")
        raise DataError(f"method.general: {where}: {problem}")
    messages = record.values.get(general.column)
    if not _is_conversation(messages):
        messages = _from_other_forms(messages)
    if not _is_conversation(messages):
        raise DataError(
            f"method.general: {record.where}: column {general.column!r} is not a conversation; expected a "
            "list of {role, content} messages of text, of which the second or a later is the assistant's; "
            f"there are: {', '.join(map(repr, record.values)) or 'no columns'}."
        )
    turns = [
        Turn(role=str(m["role"]), content=str(m["content"]), loss=i > 0 and m["role"] == "assistant")
        for i, m in enumerate(messages or ())
    ]
    row_id = digest([RECORD, round_, turns])[:ID_CHARS]
    lineage = Lineage(
        row_id=row_id,
        parent_ids=[],
        task_id=record.where,
        kind="real",
        record=RECORD,
        round=round_,
        method=RECORD,
    )
    return TURNS.row(lineage, turns=turns)


def _from_other_forms(value: Any) -> chats.Turns | None:
    """Return the messages of ShareGPT ({from, value}), or with further keys, such as a name."""
    try:
        return chats.messages(value, "the conversation")
    except UnusableError:
        return None


def _is_conversation(messages: Any) -> bool:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return False
    texts = all(isinstance(v, str) for m in messages for v in m.values())
    keys = all(m.keys() == {"role", "content"} for m in messages)
    return keys and texts and any(m["role"] == "assistant" for m in messages[1:])
