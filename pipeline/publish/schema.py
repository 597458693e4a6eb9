"""The one schema of published supervised data, for every method and every round. Frozen: see tests/publish/test_schema.py."""

from collections.abc import Sequence
from typing import Literal, TypedDict

import orjson
from datasets import Features, List, Value

from pipeline.engines.base import Message

SCHEMA_VERSION = 1  # raise it with any change below: data of different versions cannot be concatenated

MESSAGES = List({"role": Value("string"), "content": Value("string")})

# TRL reads `prompt` and `completion` and ignores the others. None of them may have a name that TRL acts on (TRL_NAMES).
FEATURES = Features(
    {
        "prompt": MESSAGES,
        "completion": MESSAGES,
        "row_id": Value("string"),
        "parent_ids": List(Value("string")),
        "task_id": Value("string"),
        "src_kind": Value("string"),  # "real" or "synthetic"
        "src_round": Value("int32"),  # 0: real demonstrations
        "src_method": Value("string"),
        "src_model": Value("string"),  # "name@revision"; "" for real demonstrations
        "src_sampling": Value("string"),  # JSON
        "src_verdict": Value("string"),  # JSON
        "src_hinted": Value("bool"),  # the answer was shown while the completion was made
        "tokens_prompt": Value("int32"),
        "tokens_completion": Value("int32"),
    }
)

# Column names that TRL 1.16's trainers read, beside prompt and completion (trl/trainer/*_trainer.py, trl/data_utils.py).
TRL_NAMES = frozenset(
    {
        "text",
        "messages",
        "chosen",
        "rejected",
        "conversations",
        "input_ids",
        "labels",
        "attention_mask",
        "assistant_masks",
        "completion_mask",
        "position_ids",
        "tools",
        "chat_template_kwargs",
        "image",
        "images",
        "seq_lengths",
        "label",
        "length",
        "ref_chosen_logps",
        "ref_rejected_logps",
    }
)


class PublishedRow(TypedDict):
    """One supervised example with its lineage, as FEATURES has it."""

    prompt: list[Message]
    completion: list[Message]
    row_id: str
    parent_ids: list[str]
    task_id: str
    src_kind: Literal["real", "synthetic"]
    src_round: int
    src_method: str
    src_model: str
    src_sampling: str
    src_verdict: str
    src_hinted: bool
    tokens_prompt: int
    tokens_completion: int


def published_row(
    prompt: list[Message],
    completion: list[Message],
    *,
    row_id: str,
    parent_ids: Sequence[str],
    task_id: str,
    kind: Literal["real", "synthetic"],
    round: int,
    method: str,
    model: str = "",
    sampling: object = None,
    verdict: object = None,
    hinted: bool = False,
) -> PublishedRow:
    """Return a row of FEATURES; `sampling` and `verdict` (JSON values) become text. Its token counts are filled by `measure`."""
    return PublishedRow(
        prompt=prompt,
        completion=completion,
        row_id=row_id,
        parent_ids=list(parent_ids),
        task_id=task_id,
        src_kind=kind,
        src_round=round,
        src_method=method,
        src_model=model,
        src_sampling=json_text(sampling),
        src_verdict=json_text(verdict),
        src_hinted=hinted,
        tokens_prompt=0,
        tokens_completion=0,
    )


def json_text(value: object) -> str:
    """Return a JSON value as text with its keys sorted, "" for None."""
    return "" if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
