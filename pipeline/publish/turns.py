"""Conversations of many turns, each with its own loss flag, in the form that trainers read: token ids and labels.

TRL knows a mask for "the completion" and one for "every assistant turn", and neither can leave out a bad action in the middle. So the
mask is made here, with the model's tokenizer, and stands in the dataset as `labels`; a dataset with `input_ids` and `labels` is trained on
as it is. There is no column of plain messages that a trainer could pick up without the mask (Agent-R 1.8, F6). Frozen: see
tests/publish/test_turns.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from datasets import Features, List, Value

from pipeline.errors import DataError
from pipeline.publish.schema import json_text

TURN_SCHEMA_VERSION = 1  # raise it with any change below: data of different versions cannot be concatenated
IGNORED = -100  # the label of a token without loss, as PyTorch's cross-entropy has it

TURN_FEATURES = Features(
    {
        "input_ids": List(Value("int32")),
        "labels": List(Value("int32")),
        "turns": List({"role": Value("string"), "content": Value("string"), "loss": Value("bool")}),
        "row_id": Value("string"),
        "parent_ids": List(Value("string")),
        "task_id": Value("string"),
        "src_kind": Value("string"),  # "real" or "synthetic"
        "src_record": Value("string"),  # what sort of record the method calls it
        "src_round": Value("int32"),  # 0: real demonstrations
        "src_method": Value("string"),
        "src_model": Value("string"),  # "name@revision"; "" for real demonstrations
        "src_sampling": Value("string"),  # JSON
        "src_verdict": Value("string"),  # JSON
        "tokens_context": Value("int32"),  # tokens without loss
        "tokens_loss": Value("int32"),
    }
)


class Turn(TypedDict):
    """One message, and whether it is learnt."""

    role: str
    content: str
    loss: bool


class TurnRow(TypedDict):
    """One conversation with its lineage, as TURN_FEATURES has it."""

    input_ids: list[int]
    labels: list[int]
    turns: list[Turn]
    row_id: str
    parent_ids: list[str]
    task_id: str
    src_kind: Literal["real", "synthetic"]
    src_record: str
    src_round: int
    src_method: str
    src_model: str
    src_sampling: str
    src_verdict: str
    tokens_context: int
    tokens_loss: int


def turn_row(
    turns: list[Turn],
    *,
    row_id: str,
    parent_ids: Sequence[str],
    task_id: str,
    kind: Literal["real", "synthetic"],
    record: str,
    round: int,
    method: str,
    model: str = "",
    sampling: object = None,
    verdict: object = None,
) -> TurnRow:
    """Return a row of TURN_FEATURES; its token ids, labels and counts are filled by `measure`."""
    return TurnRow(
        input_ids=[],
        labels=[],
        turns=turns,
        row_id=row_id,
        parent_ids=list(parent_ids),
        task_id=task_id,
        src_kind=kind,
        src_record=record,
        src_round=round,
        src_method=method,
        src_model=model,
        src_sampling=json_text(sampling),
        src_verdict=json_text(verdict),
        tokens_context=0,
        tokens_loss=0,
    )


def tokens_of_turns(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `input_ids`, `labels` and both token counts of a row."""
    ids, labels = encode_turns(tokenizer, row["turns"])
    learnt = sum(label != IGNORED for label in labels)
    return {"input_ids": ids, "labels": labels, "tokens_context": len(ids) - learnt, "tokens_loss": learnt}


def encode_turns(tokenizer: Any, turns: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """Return the token ids of a conversation, and their labels: the id where a turn with `loss` speaks, IGNORED elsewhere.

    A turn speaks from behind its header (what a generation begins after) to its end, the end mark included: a model learns to stop.
    Raises DataError for a template that writes the beginning of a conversation otherwise when more follows: there the mask of a turn
    would not be where a generation of that turn is.
    """
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    whole = _ids(tokenizer, messages)
    labels = [IGNORED] * len(whole)
    for i, turn in enumerate(turns):
        if not turn["loss"]:
            continue
        if turn["role"] != "assistant":
            raise DataError(
                f"turn {i} is to be learnt, but its role is {turn['role']!r}; a model learns turns of the assistant."
            )
        start, end = _ids(tokenizer, messages[:i], generation=True), _ids(tokenizer, messages[: i + 1])
        if whole[: len(end)] != end or end[: len(start)] != start:
            raise DataError(
                f"the chat template of {getattr(tokenizer, 'name_or_path', '') or 'this tokenizer'} does not write turn {i} the same when more "
                "turns follow, or after the header it generates from. Training on single turns needs a template that only ever appends: "
                "templates that take thoughts out of earlier turns, or rewrite the last one, do not."
            )
        labels[len(start) : len(end)] = end[len(start) :]
    return whole, labels


def _ids(tokenizer: Any, messages: list[dict[str, str]], generation: bool = False) -> list[int]:
    return tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=generation
    )["input_ids"]
