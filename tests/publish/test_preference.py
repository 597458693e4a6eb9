"""Published pairs: the frozen schema, both loaders, the card.

Policies over rounds are the same as for examples.
"""

import pytest
import yaml
from datasets import load_dataset, load_from_disk

from pipeline.config import Accumulate
from pipeline.errors import DataError
from pipeline.ids import digest
from pipeline.publish import DPO, SFT
from pipeline.publish.accumulate import mixture
from pipeline.publish.dataset import MANIFEST, publish, shares
from pipeline.publish.kinds import measure
from pipeline.publish.loading import load_mixture
from pipeline.publish.tokens import token_lengths
from pipeline.store.files import read_json
from tests.publish.conftest import FACTS, make_pairs, make_rows
from tests.publish.test_dataset import Template
from tests.publish.test_schema import TRL_NAMES

MESSAGES = "list<item: struct<role: string, content: string>>"
GOLDEN = {
    "prompt": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "row_id": "string",
    "parent_ids": "list<item: string>",
    "task_id": "string",
    "src_kind": "string",
    "src_round": "int32",
    "src_method": "string",
    "src_chosen_model": "string",
    "src_rejected_model": "string",
    "src_sampling": "string",
    "src_chosen_verdict": "string",
    "src_rejected_verdict": "string",
    "src_hinted": "bool",
    "tokens_prompt": "int32",
    "tokens_chosen": "int32",
    "tokens_rejected": "int32",
}


def test_the_schema_is_the_golden_one():
    assert DPO.version == 1
    assert {field.name: str(field.type) for field in DPO.features.arrow_schema} == GOLDEN
    assert list(DPO.features) == list(GOLDEN) == list(make_pairs(1)[0])
    assert TRL_NAMES & DPO.features.keys() == {"chosen", "rejected"}, "lineage means nothing to TRL"
    row = make_pairs(1)[0]
    assert digest(DPO.features.encode_example(dict(row))) == digest(row)


def test_both_loaders_give_the_same_pairs(tmp_path):
    made = make_pairs(23)
    manifest = publish(iter(made), tmp_path / "d", FACTS, 1, DPO)
    mapped = load_from_disk(str(tmp_path / "d"))["train"]
    cached = load_dataset(str(tmp_path / "d"), split="train", cache_dir=str(tmp_path / "cache"))
    assert mapped.features == cached.features == DPO.features
    assert mapped.to_list() == cached.to_list() and {row["row_id"]: row for row in mapped} == {
        row["row_id"]: row for row in made
    }
    assert manifest == read_json(str(tmp_path / "d" / MANIFEST)) and list(manifest["tokens"]) == [
        "prompt",
        "chosen",
        "rejected",
        "whole",
    ]


def test_no_pairs_are_a_dataset_too(tmp_path):
    assert publish([], tmp_path / "d", FACTS, 1, DPO)["rows"] == 0
    empty = load_from_disk(str(tmp_path / "d"))["train"]
    assert len(empty) == 0 and empty.features == DPO.features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_id": "p1-0"}, "occurs twice"),
        ({"rejected": []}, "rejected must be one or more"),
        ({"chosen": [{"role": "assistant", "content": None}]}, "chosen must be"),
        ({"completion": []}, "unknown \\['completion'\\]"),
    ],
)
def test_pairs_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, change, message):
    first, second = make_pairs(2)
    with pytest.raises(DataError, match=message):
        publish([first, {**second, **change}], tmp_path / "d", FACTS, 0, DPO)
    assert list(tmp_path.iterdir()) == []


def test_the_card_speaks_of_pairs(tmp_path):
    publish(measure(make_pairs(6), Template(), DPO), tmp_path / "d", FACTS, 0, DPO)
    _, matter, text = (tmp_path / "d" / "README.md").read_text().split("---\n", 2)
    assert "dpo" in yaml.safe_load(matter)["tags"]
    for needed in (
        "6 preference pairs",
        "synthetic pairs: 6",
        "`prompt`, `chosen` and `rejected` are what",
        "trl dpo --config",
        "| rejected |",
    ):
        assert needed in text
    assert "{command}" not in text


class Merging(Template):
    """A tokenizer that takes a reply's first "hm" into the prompt's last token.

    The prompt and the whole thus diverge earlier.
    """

    def words(self, messages):
        ids = super().words(messages)
        at = next((i for i, word in enumerate(ids) if word == "hm"), None)
        return ids if at is None else [*ids[: at - 1], ids[at - 1] + "hm", *ids[at + 1 :]]


def test_the_prompt_ends_where_the_first_of_both_answers_diverges():
    row = make_pairs(1)[0]
    [counted] = DPO.token_columns(Merging(), [row])
    (start, rest), (other, tail) = (
        token_lengths(Merging(), row["prompt"], row[side]) for side in ("chosen", "rejected")
    )
    assert other < start and counted == {
        "tokens_prompt": other,
        "tokens_chosen": start + rest - other,
        "tokens_rejected": tail,
    }


@pytest.mark.parametrize(
    ("policy", "rows"),
    [("all", {"1": 6, "2": 4, "3": 5}), ("replace", {"3": 5}), ("window:2", {"2": 4, "3": 5})],
)
def test_pairs_accumulate_as_examples_do(tmp_path, policy, rows):
    for number, count in ((1, 6), (2, 4), (3, 5)):
        publish(make_pairs(count, number), tmp_path / str(number), FACTS, 0, DPO)
    chosen = mixture(
        Accumulate(policy=policy), 3, {n: tmp_path / str(n) for n in (1, 2, 3)}
    )  # round 0 has none, keep_real or not
    assert shares(load_mixture(chosen, 0, DPO)) == {
        "real": 0,
        "synthetic": sum(rows.values()),
        "rounds": rows,
    }


def test_a_draw_of_pairs_and_a_folder_of_another_kind(tmp_path):
    publish(make_pairs(9), tmp_path / "1", FACTS, 0, DPO)
    publish(make_rows(9), tmp_path / "2", FACTS, 0)
    assert len(load_mixture(mixture(Accumulate(policy="subsample:4"), 1, {1: tmp_path / "1"}), 0, DPO)) == 4
    for number, kind in ((1, SFT), (2, DPO)):
        with pytest.raises(DataError, match="schema"):
            load_mixture(
                mixture(Accumulate(policy="replace"), number, {number: tmp_path / str(number)}), 0, kind
            )
