"""Published texts: the frozen schema, both loaders, the card, and token counts with BOS and EOS."""

from typing import Any

import pytest
from datasets import load_dataset, load_from_disk

from pipeline.config import Accumulate
from pipeline.errors import DataError
from pipeline.ids import digest
from pipeline.publish import (
    CPT,
    Lineage,
    PublishedRow,
    measure,
    mixture,
    text_ids,
)
from pipeline.publish.dataset import publish
from pipeline.publish.loading import load_mixture
from stages.methods.entigraph.method import EntiGraph
from tests.publish.conftest import FACTS
from tests.publish.test_schema import TRL_NAMES
from tests.training.conftest import tiny_model, tokenizer

__all__ = ["tiny_model", "tokenizer"]


TEXTS = CPT.extended(EntiGraph.lineage)


def make_texts(count: int, round: int = 1, words: int = 30) -> list[PublishedRow]:
    """Return `count` texts of one round; the i-th has `words` + i % 7 words."""
    return [
        TEXTS.row(
            Lineage(
                row_id=f"t{round}-{i}",
                parent_ids=[f"p{i}"],
                task_id=f"doc{i % 3}",
                kind="synthetic",
                round=round,
                method="entigraph",
                own={"form": "pair", "entities": ["a", "b"]},
                model="m@abc",
                sampling={"temperature": 1.0},
            ),
            text=" ".join(f"w{i}x{k}" for k in range(words + i % 7)),
        )
        for i in range(count)
    ]


def test_the_schema_is_frozen() -> None:
    """A change needs a new version: published rounds of both cannot be concatenated."""
    assert (TEXTS.version, digest(TEXTS.features.to_dict())[:16]) == (1, "cd0c3272fbc1a274")
    assert list(TEXTS.features)[3:10] == [
        "task_id",
        "src_kind",
        "src_round",
        "src_method",
        "src_form",
        "src_entities",
        "src_model",
    ]
    assert not (TEXTS.features.keys() - {"text"}) & TRL_NAMES


def test_both_loaders_read_it_and_the_card_says_what_it_is(tmp_path: Any, tokenizer: Any) -> None:
    folder = tmp_path / "round-001"
    manifest = publish(measure(make_texts(9), tokenizer, TEXTS), folder, FACTS, 0, TEXTS)
    loaded = load_from_disk(str(folder))["train"]
    again = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert (
        loaded.features == TEXTS.features
        and again["text"] == loaded["text"]
        and (manifest["rows"], manifest["synthetic"]) == (9, 9)
    )
    for row in loaded:
        ids = text_ids(tokenizer, row["text"])
        assert len(ids) == row["tokens_text"]
        assert tokenizer.decode(ids) == f"{row['text']}<|endoftext|>", "its BOS and EOS are those of turns"
    card = (folder / "README.md").read_text()
    for said in (
        "9 plain texts for continued pretraining",
        "synthetic texts: 9",
        "`text` is what a trainer reads",
        "trl sft",
        "cuts the stream into blocks",
    ):
        assert said in card, said


class _Tokenizer:
    """A tokenizer of characters, with these special tokens."""

    def __init__(self, bos: str | None, eos: str, *others: str) -> None:
        self.bos_token, self.eos_token = bos, eos
        self._vocabulary = {name: i for i, name in enumerate(filter(None, (bos, eos, *others)))}
        self.bos_token_id = None if bos is None else self._vocabulary[bos]
        self.eos_token_id = self._vocabulary[eos]

    def get_vocab(self) -> dict[str, int]:
        return self._vocabulary

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [100 + ord(c) for c in text]}

    def ends(self) -> tuple[str, ...]:
        names = {i: name for name, i in self._vocabulary.items()}
        return tuple(names[i] for i in text_ids(self, "x") if i < 100)


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ((None, "<|im_end|>", "<|endoftext|>"), ("<|endoftext|>",)),  # Qwen
        ((None, "<|endoftext|>", "<|im_end|>"), ("<|endoftext|>",)),  # its base models
        (("<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>"), ("<|begin_of_text|>", "<|end_of_text|>")),
        (("<s>", "</s>"), ("<s>", "</s>")),
        (("<s>", "<|endoftext|>", "</s>"), ("<s>", "<|endoftext|>")),  # Phi 3
        (("<bos>", "<end_of_turn>", "<eos>"), ("<bos>", "<eos>")),
        (("<a>", "<b>"), ("<a>", "<b>")),  # nothing is known of it
    ],
)
def test_texts_end_as_documents_and_not_as_turns(
    tokens: tuple[str | None, ...], ends: tuple[str, ...]
) -> None:
    assert _Tokenizer(*tokens).ends() == ends


def test_rounds_accumulate_in_an_order_that_ids_decide(tmp_path: Any, tokenizer: Any) -> None:
    for r in (1, 2):
        publish(measure(make_texts(5, r), tokenizer, TEXTS), tmp_path / str(r), FACTS, 0, TEXTS)
    folders = {1: tmp_path / "1", 2: tmp_path / "2"}
    both = load_mixture(mixture(Accumulate(), 2, folders), 3, TEXTS)["row_id"]
    swapped = load_mixture(mixture(Accumulate(), 2, dict(reversed(folders.items()))), 3, TEXTS)["row_id"]
    assert list(both) == list(swapped) and len(set(both)) == 10


@pytest.mark.parametrize("text", ["", " \n", None])
def test_a_blank_text_is_refused(tmp_path: Any, text: Any) -> None:
    with pytest.raises(DataError, match="text must be a text, and not blank"):
        publish([{**make_texts(1)[0], "text": text}], tmp_path / "d", FACTS, 0, TEXTS)
