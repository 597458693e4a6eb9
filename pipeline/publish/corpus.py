"""The one schema of published texts for continued pretraining, for every method and every round. Frozen: see tests/publish/test_corpus.py."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from datasets import Features, List, Value

from pipeline.publish.schema import json_text

TEXT_SCHEMA_VERSION = 1  # raise it with any change below: data of different versions cannot be concatenated

TEXT_FEATURES = Features(
    {
        "text": Value("string"),
        "row_id": Value("string"),
        "parent_ids": List(Value("string")),
        "task_id": Value("string"),  # the document
        "src_kind": Value("string"),  # "real" (the document itself) or "synthetic"
        "src_round": Value("int32"),
        "src_method": Value("string"),
        "src_form": Value("string"),  # what the text is of its document, such as "pair" or "rephrase:simple"
        "src_entities": List(Value("string")),
        "src_model": Value("string"),  # "name@revision"; "" for real texts
        "src_sampling": Value("string"),  # JSON
        "src_verdict": Value("string"),  # JSON: what a judge found, "" when none was asked
        "tokens_text": Value("int32"),  # BOS and EOS included
    }
)


class TextRow(TypedDict):
    """One text with its lineage, as TEXT_FEATURES has it."""

    text: str
    row_id: str
    parent_ids: list[str]
    task_id: str
    src_kind: Literal["real", "synthetic"]
    src_round: int
    src_method: str
    src_form: str
    src_entities: list[str]
    src_model: str
    src_sampling: str
    src_verdict: str
    tokens_text: int


def text_row(
    text: str,
    *,
    row_id: str,
    parent_ids: Sequence[str],
    task_id: str,
    kind: Literal["real", "synthetic"],
    round: int,
    method: str,
    form: str = "",
    entities: Sequence[str] = (),
    model: str = "",
    sampling: object = None,
    verdict: object = None,
) -> TextRow:
    """Return a row of TEXT_FEATURES; `sampling` and `verdict` (JSON values) become text. Its token count is filled by `measure`."""
    return TextRow(
        text=text,
        row_id=row_id,
        parent_ids=list(parent_ids),
        task_id=task_id,
        src_kind=kind,
        src_round=round,
        src_method=method,
        src_form=form,
        src_entities=list(entities),
        src_model=model,
        src_sampling=json_text(sampling),
        src_verdict=json_text(verdict),
        tokens_text=0,
    )


def tokens_of_text(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the token count of a row."""
    return {"tokens_text": len(text_ids(tokenizer, row["text"]))}


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Return a text's tokens as continued pretraining reads them: after BOS, where the tokenizer has one, and closed by EOS."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [*start, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
