"""Published folders: both loaders, any number of rows, one order, nothing odd inside."""

import random

import datasets
import pytest
import yaml
from datasets import load_dataset, load_from_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.publish.dataset import MANIFEST, publish, shares
from pipeline.publish.kinds import SFT, measure
from pipeline.publish.tokens import token_lengths
from pipeline.store.files import read_json


def test_both_loaders_give_the_same_rows(tmp_path, rows, facts):
    made = rows(23)
    manifest = publish(iter(made), tmp_path / "d", facts, seed=1)
    mapped = load_from_disk(str(tmp_path / "d"))["train"]
    cached = load_dataset(str(tmp_path / "d"), split="train", cache_dir=str(tmp_path / "cache"))
    assert mapped.features == cached.features == SFT.features
    assert mapped.to_list() == cached.to_list() and sorted(mapped["row_id"]) == sorted(
        row["row_id"] for row in made
    )
    assert {row["row_id"]: row for row in mapped} == {row["row_id"]: row for row in made}
    assert manifest == read_json(str(tmp_path / "d" / MANIFEST)) and (
        manifest["rows"],
        manifest["synthetic"],
    ) == (23, 23)


def test_no_rows_are_a_dataset_too(tmp_path, facts):
    manifest = publish([], tmp_path / "d", facts, seed=1)
    empty = load_from_disk(str(tmp_path / "d"))["train"]
    assert len(empty) == 0 and empty.features == SFT.features and manifest["rows"] == 0
    assert list(load_dataset(str(tmp_path / "d"), split="train", streaming=True)) == []
    with pytest.raises(
        ValueError, match="corresponds to no data"
    ):  # datasets 5.2 loads no split without rows, of any format
        load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))


def test_rounds_concatenate_and_the_folder_is_replaced_whole(tmp_path, rows, facts):
    for number, count in ((1, 3), (2, 0), (3, 4)):
        publish(rows(9, number), tmp_path / str(number), facts, 0)
        publish(rows(count, number), tmp_path / str(number), facts, 0)
    whole = datasets.concatenate_datasets(
        [load_from_disk(str(tmp_path / str(n)))["train"] for n in (1, 2, 3)]
    )
    assert shares(whole) == {"real": 0, "synthetic": 7, "rounds": {"1": 3, "3": 4}}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3"]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_the_order_depends_on_seed_and_ids_alone(tmp_path, rows, facts, rng: random.Random):
    made = rows(12)
    first = publish(made, tmp_path / "a", facts, 5)
    rng.shuffle(made)
    assert (
        publish(made, tmp_path / "b", facts, 5)["digest"]
        == first["digest"]
        != publish(made, tmp_path / "c", facts, 6)["digest"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_id": "r1-0"}, "occurs twice"),
        ({"src_kind": "made up"}, "'real' or 'synthetic'"),
        ({"completion": []}, "one or more"),
        ({"prompt": [{"role": "user", "content": None}]}, "of text"),
        ({"prompt": [{"role": "user", "content": "x", "name": "y"}]}, "of text"),
        ({"extra": 1}, "unknown \\['extra'\\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, rows, facts, change, message):
    made = rows(2)
    with pytest.raises(DataError, match=message):
        publish([made[0], {**made[1], **change}], tmp_path / "d", facts, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_memory_stays_bounded_with_many_rows(tmp_path, rows, facts):
    """A generator of 20,000 rows of 2 kB (40 MB as text) must not be held.

    Python objects at the peak stay far below.
    """
    import tracemalloc

    one = rows(1)[0]
    text = [{"role": "assistant", "content": "word " * 400}]
    tracemalloc.start()
    try:
        publish(
            ({**one, "row_id": f"r{i}", "completion": text} for i in range(20_000)), tmp_path / "d", facts, 0
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(load_from_disk(str(tmp_path / "d"))["train"]) == 20_000 and peak < 20e6


class Template:
    """A fake tokenizer: a token per word, and a prompt that ends differently with an answer than without."""

    def apply_chat_template(self, conversations, tokenize, return_dict, add_generation_prompt=False):
        end = ["assistant", "think"] if add_generation_prompt else ["end"]
        return {"input_ids": [[*self.words(messages), *end] for messages in conversations]}

    def words(self, messages):
        return [word for m in messages for word in (m["role"], *m["content"].split())]


def test_token_lengths_split_where_prompt_and_whole_diverge(rows):
    row = next(iter(measure(rows(1), Template())))
    assert token_lengths(Template(), row["prompt"], row["completion"]) == (
        7,
        5,
    )  # user What is 0 + 1? assistant | so so so 1 end
    assert (row["tokens_prompt"], row["tokens_completion"]) == (7, 5)


def test_the_card_names_counts_and_its_front_matter_is_yaml(tmp_path, rows, facts):
    publish(rows(4) + rows(2, 0, "real"), tmp_path / "d", facts, 0)
    _, matter, text = (tmp_path / "d" / "README.md").read_text().split("---\n", 2)
    read = yaml.safe_load(matter)
    assert read["configs"][0]["data_files"] == [{"split": "train", "path": "train/data-*.arrow"}]
    assert read["dataset_info"]["splits"][0]["num_examples"] == 6
    for needed in (
        "| generate | 10 | 7 | 3 | 0 |",
        "| verify: wrong_answer | 3 |",
        "m@abc",
        "Real demonstrations: 2; synthetic examples: 4 (67% synthetic)",
        "p95",
        "load_from_disk",
        "load_dataset",
        "trl sft",
        "13 words",
    ):
        assert needed in text
