"""The order of published rows is the same however many are dealt at once, and ids are distinct."""

from functools import partial
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.models import resolve_model
from pipeline.publish import dataset, measure, shuffled
from pipeline.publish.dataset import publish
from pipeline.publish.kinds import SFT
from pipeline.publish.tokens import lengths_of, token_lengths


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffled, "DEALT", 7)
    monkeypatch.setattr(shuffled, "SHARES", 4)
    monkeypatch.setattr(shuffled, "SORTED", 3)
    monkeypatch.setattr(dataset, "_BATCH", 5)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 60])
def test_the_order(tmp_path: Any, rows: Any, facts: Any, few_at_once: None, count: int) -> None:
    manifest = publish(rows(count), tmp_path / "d", facts, seed=3)
    place = partial(unit_interval, 3, "publish")
    ids = sorted((row["row_id"] for row in rows(count)), key=lambda i: (place(i), i))
    assert load_from_disk(str(tmp_path / "d"))["train"]["row_id"][:] == ids and manifest["rows"] == count


def test_digest_and_quantiles_are_those_of_one_deal(
    tmp_path: Any, rows: Any, facts: Any, request: pytest.FixtureRequest
) -> None:
    made = [{**row, "tokens_prompt": i, "tokens_completion": i % 9} for i, row in enumerate(rows(60))]
    whole = publish(made, tmp_path / "a", facts, seed=3)
    request.getfixturevalue("few_at_once")
    assert publish(made, tmp_path / "b", facts, seed=3) == whole
    assert whole["tokens"]["prompt"] == {"p50": 30, "p95": 57, "max": 59}
    assert whole["digest"] == "1e3053b872ebf963b32cf20a36797c192e9dc652a7e170f66649d69bb0ab83e1"


def test_an_id_that_occurs_twice_far_apart(tmp_path: Any, rows: Any, facts: Any, few_at_once: None) -> None:
    with pytest.raises(DataError, match="'r1-0' occurs twice"):
        publish([*rows(40), rows(1)[0]], tmp_path / "d", facts, 0)
    assert list(tmp_path.iterdir()) == []


def test_tokens_of_a_batch_are_those_of_each_row(rows: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer, made = AutoTokenizer.from_pretrained(resolve_model("smollm2-135m-instruct").path), rows(9)
    made += [{**row, "row_id": f"again {row['row_id']}"} for row in made]
    examples = [(row["prompt"], row["completion"]) for row in made]
    assert lengths_of(tokenizer, examples) == [token_lengths(tokenizer, *example) for example in examples]
    for row in measure(made, tokenizer, SFT):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], return_dict=True)
        lengths = len(prompt["input_ids"]), len(whole["input_ids"])
        assert (row["tokens_prompt"], row["tokens_prompt"] + row["tokens_completion"]) == lengths
