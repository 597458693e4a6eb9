"""The one schema of published preference pairs, for every method and every round. Frozen: see tests/publish/test_preference.py."""

from collections.abc import Sequence
from typing import TypedDict

from datasets import Features, List, Value

from pipeline.engines.base import Message
from pipeline.publish.schema import MESSAGES, json_text

PAIR_SCHEMA_VERSION = 1  # raise it with any change below: data of different versions cannot be concatenated

# Explicit-prompt conversational: TRL reads `prompt`, `chosen` and `rejected` and ignores the others.
PAIR_FEATURES = Features(
    {
        "prompt": MESSAGES,
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "row_id": Value("string"),
        "parent_ids": List(Value("string")),  # the chosen row, then the rejected one
        "task_id": Value("string"),
        "src_kind": Value("string"),  # "synthetic": demonstrations have no wrong answers
        "src_round": Value("int32"),
        "src_method": Value("string"),
        "src_chosen_model": Value("string"),  # "name@revision"
        "src_rejected_model": Value("string"),
        "src_sampling": Value("string"),  # JSON
        "src_chosen_verdict": Value("string"),  # JSON
        "src_rejected_verdict": Value("string"),  # JSON
        "src_hinted": Value("bool"),  # the answer was shown while one of the two was made
        "tokens_prompt": Value("int32"),
        "tokens_chosen": Value("int32"),
        "tokens_rejected": Value("int32"),
    }
)


class PairRow(TypedDict):
    """One preference pair with the lineage of both sides, as PAIR_FEATURES has it."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    row_id: str
    parent_ids: list[str]
    task_id: str
    src_kind: str
    src_round: int
    src_method: str
    src_chosen_model: str
    src_rejected_model: str
    src_sampling: str
    src_chosen_verdict: str
    src_rejected_verdict: str
    src_hinted: bool
    tokens_prompt: int
    tokens_chosen: int
    tokens_rejected: int


def pair_row(
    prompt: list[Message],
    chosen: list[Message],
    rejected: list[Message],
    *,
    row_id: str,
    parent_ids: Sequence[str],
    task_id: str,
    round: int,
    method: str,
    models: tuple[str, str] = ("", ""),
    sampling: object = None,
    verdicts: tuple[object, object] = (None, None),
    hinted: bool = False,
) -> PairRow:
    """Return a row of PAIR_FEATURES; `models` and `verdicts` are those of chosen and rejected. Its token counts are filled by `measure`."""
    return PairRow(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        row_id=row_id,
        parent_ids=list(parent_ids),
        task_id=task_id,
        src_kind="synthetic",
        src_round=round,
        src_method=method,
        src_chosen_model=models[0],
        src_rejected_model=models[1],
        src_sampling=json_text(sampling),
        src_chosen_verdict=json_text(verdicts[0]),
        src_rejected_verdict=json_text(verdicts[1]),
        src_hinted=hinted,
        tokens_prompt=0,
        tokens_chosen=0,
        tokens_rejected=0,
    )
