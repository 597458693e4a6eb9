"""The published schema is frozen: a change here is a new SCHEMA_VERSION and a note in the README."""

from pipeline.ids import digest
from pipeline.publish.schema import FEATURES, SCHEMA_VERSION, TRL_NAMES, PublishedRow

GOLDEN = {
    "prompt": "list<item: struct<role: string, content: string>>",
    "completion": "list<item: struct<role: string, content: string>>",
    "row_id": "string",
    "parent_ids": "list<item: string>",
    "task_id": "string",
    "src_kind": "string",
    "src_round": "int32",
    "src_method": "string",
    "src_model": "string",
    "src_sampling": "string",
    "src_verdict": "string",
    "src_hinted": "bool",
    "tokens_prompt": "int32",
    "tokens_completion": "int32",
}


def test_the_schema_is_the_golden_one():
    assert SCHEMA_VERSION == 1
    assert {field.name: str(field.type) for field in FEATURES.arrow_schema} == GOLDEN
    assert list(FEATURES) == list(GOLDEN) == list(PublishedRow.__annotations__)


def test_lineage_columns_mean_nothing_to_trl():
    assert not TRL_NAMES & FEATURES.keys()
    assert not [name for name in FEATURES if name.endswith(("_mask", "_masks", "_logps"))]


def test_rows_of_the_factory_fit(rows):
    row = rows(1)[0]
    assert row.keys() == FEATURES.keys()
    assert (row["src_sampling"], row["src_verdict"], row["src_hinted"]) == (
        '{"temperature":1.0}',
        '{"correct":true}',
        False,
    )
    assert digest(FEATURES.encode_example(dict(row))) == digest(row)
