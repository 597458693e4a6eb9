"""Published texts: the frozen schema, both loaders, the card, and token counts with BOS and EOS."""

from typing import Any

import pytest
from datasets import load_dataset, load_from_disk

from pipeline.config import Accumulate
from pipeline.errors import DataError
from pipeline.ids import digest
from pipeline.publish import (
    CPT,
    TEXT_FEATURES,
    TextRow,
    load_mixture,
    measure,
    mixture,
    publish,
    text_ids,
    text_row,
)
from pipeline.publish.corpus import TEXT_SCHEMA_VERSION
from pipeline.publish.schema import TRL_NAMES
from tests.publish.conftest import FACTS
from tests.training.conftest import tiny_model, tokenizer

__all__ = ["tiny_model", "tokenizer"]


def make_texts(count: int, round: int = 1, words: int = 30) -> list[TextRow]:
    """Return `count` texts of one round; the i-th has `words` + i % 7 words."""
    return [
        text_row(
            " ".join(f"w{i}x{k}" for k in range(words + i % 7)),
            row_id=f"t{round}-{i}",
            parent_ids=[f"p{i}"],
            task_id=f"doc{i % 3}",
            kind="synthetic",
            round=round,
            method="entigraph",
            form="pair",
            entities=["a", "b"],
            model="m@abc",
            sampling={"temperature": 1.0},
        )
        for i in range(count)
    ]


def test_the_schema_is_frozen() -> None:
    """A change of it needs a new TEXT_SCHEMA_VERSION: published rounds of both cannot be concatenated."""
    assert (TEXT_SCHEMA_VERSION, digest(TEXT_FEATURES.to_dict())[:16]) == (1, "cd0c3272fbc1a274")
    assert not (TEXT_FEATURES.keys() - {"text"}) & TRL_NAMES


def test_both_loaders_read_it_and_the_card_says_what_it_is(tmp_path: Any, tokenizer: Any) -> None:
    folder = tmp_path / "round-001"
    manifest = publish(measure(make_texts(9), tokenizer, CPT), folder, FACTS, 0, CPT)
    loaded = load_from_disk(str(folder))["train"]
    again = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert (
        loaded.features == TEXT_FEATURES
        and again["text"] == loaded["text"]
        and (manifest["rows"], manifest["synthetic"]) == (9, 9)
    )
    for row in loaded:
        ids = text_ids(tokenizer, row["text"])
        assert (ids[0], ids[-1], len(ids)) == (
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            row["tokens_text"],
        )
        assert tokenizer.decode(ids[1:-1]) == row["text"]
    card = (folder / "README.md").read_text()
    for said in (
        "9 plain texts for continued pretraining",
        "synthetic texts: 9",
        "`text` is what a trainer reads",
        "trl sft",
        "cuts the stream into blocks",
    ):
        assert said in card, said


def test_rounds_accumulate_in_an_order_that_ids_decide(tmp_path: Any, tokenizer: Any) -> None:
    for r in (1, 2):
        publish(measure(make_texts(5, r), tokenizer, CPT), tmp_path / str(r), FACTS, 0, CPT)
    folders = {1: tmp_path / "1", 2: tmp_path / "2"}
    both = load_mixture(mixture(Accumulate(), 2, folders), 3, CPT)["row_id"]
    swapped = load_mixture(mixture(Accumulate(), 2, dict(reversed(folders.items()))), 3, CPT)["row_id"]
    assert list(both) == list(swapped) and len(set(both)) == 10


@pytest.mark.parametrize("text", ["", " \n", None])
def test_a_blank_text_is_refused(tmp_path: Any, text: Any) -> None:
    with pytest.raises(DataError, match="text must be a text, and not blank"):
        publish([{**make_texts(1)[0], "text": text}], tmp_path / "d", FACTS, 0, CPT)
