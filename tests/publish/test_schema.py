"""The published schemas are frozen: a change is a new version of the kind and a note in the README."""

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.ids import digest
from pipeline.publish import KINDS, SFT, Lineage, Part
from pipeline.publish.accumulate import Mixture
from pipeline.publish.dataset import publish
from pipeline.publish.loading import load_mixture
from tests.publish.conftest import FACTS, make_rows

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

# Column names that TRL 1.16's trainers read, beside prompt and completion (trl/trainer/*_trainer.py,
# trl/data_utils.py).
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


def test_the_schema_is_the_golden_one():
    assert SFT.version == 1
    assert {field.name: str(field.type) for field in SFT.features.arrow_schema} == GOLDEN
    assert list(SFT.features) == list(GOLDEN) == list(make_rows(1)[0])


def test_lineage_columns_mean_nothing_to_trl():
    assert not TRL_NAMES & SFT.features.keys()
    for kind in KINDS.values():
        assert not [name for name in kind.features if name.endswith(("_mask", "_masks", "_logps"))]


def test_rows_of_the_factory_fit(rows):
    row = rows(1)[0]
    assert row.keys() == SFT.features.keys()
    assert (row["src_sampling"], row["src_verdict"], row["src_hinted"]) == (
        '{"temperature":1.0}',
        '{"correct":true}',
        False,
    )
    assert digest(SFT.features.encode_example(dict(row))) == digest(row)


def test_a_methods_own_columns_follow_its_name():
    kind = SFT.extended({"form": "string", "entities": "strings"})
    columns = list(kind.features)
    assert columns[columns.index("src_method") :][:4] == [
        "src_method",
        "src_form",
        "src_entities",
        "src_model",
    ]
    assert [c for c in columns if c not in ("src_form", "src_entities")] == list(SFT.features)
    lineage = Lineage(
        row_id="r", parent_ids=[], task_id="t", kind="real", round=0, method="m", own={"form": "x"}
    )
    row = kind.row(lineage)
    assert (row["src_form"], row["src_entities"], list(row)) == ("x", [], columns)


@pytest.mark.parametrize("own", [{"form": "int"}, {"model": "string"}, {"row_id": "string"}])
def test_unusable_columns_are_refused(own):
    with pytest.raises(
        ConfigError, match=r"Method\.lineage: .*(expected one of string, strings|choose another)"
    ):
        SFT.extended(own)


def test_further_lineage_columns_are_dropped_and_missing_ones_are_an_error(tmp_path):
    extended = SFT.extended({"form": "string"})
    rows = [{**row, "src_form": "x"} for row in make_rows(3, 1)]
    publish([*rows, *make_rows(2, 3)], tmp_path / "more", FACTS, 0, extended)  # rows of others have blanks
    publish(make_rows(4, 2), tmp_path / "plain", FACTS, 0)
    more, plain = Part(str(tmp_path / "more"), 1), Part(str(tmp_path / "plain"), 2)
    both = load_mixture(Mixture((more, plain)), 0)
    assert both.features == SFT.features and len(both) == 9
    assert sorted(load_mixture(Mixture((more,)), 0, extended)["src_form"]) == ["", "", "x", "x", "x"]
    with pytest.raises(DataError, match=r"plain: its columns .*src_form.* publish round 2 again"):
        load_mixture(Mixture((more, plain)), 0, extended)
