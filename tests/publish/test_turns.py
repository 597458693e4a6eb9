"""Conversations with a loss flag for each turn.

The frozen schema, both loaders, the card, and templates that do not fit.
"""

import pytest
from datasets import load_dataset, load_from_disk

from pipeline.errors import DataError
from pipeline.ids import digest
from pipeline.publish import TURNS, Lineage, PublishedRow, Turn, measure
from pipeline.publish.dataset import publish, shares, whole_lengths
from pipeline.publish.loss_mask import IGNORED, mask_turns
from tests.publish.conftest import FACTS
from tests.publish.test_schema import TRL_NAMES

GOLDEN = {
    "input_ids": "list<item: int32>",
    "labels": "list<item: int32>",
    "turns": "list<item: struct<role: string, content: string, loss: bool>>",
    "row_id": "string",
    "parent_ids": "list<item: string>",
    "task_id": "string",
    "src_kind": "string",
    "src_record": "string",
    "src_round": "int32",
    "src_method": "string",
    "src_model": "string",
    "src_sampling": "string",
    "src_verdict": "string",
    "tokens_context": "int32",
    "tokens_loss": "int32",
}


def conversation(i: int = 0) -> list[Turn]:
    """A spliced episode: a bad action without loss, the reflection and the good rest with it."""
    said = [
        ("system", "Play.", False),
        ("user", f"Game {i}.", False),
        ("assistant", "Action: go wrong", False),
        ("user", "No.", False),
    ]
    said += [
        ("assistant", "Thought: sorry.\nAction: reflect", True),
        ("user", "Noted.", False),
        ("assistant", f"Action: go right {'on ' * (i % 5)}", True),
    ]
    return [Turn(role=role, content=content.strip(), loss=loss) for role, content, loss in said]


def make_episodes(count: int, round: int = 1, kind: str = "synthetic") -> list[PublishedRow]:
    return [
        TURNS.row(
            Lineage(
                row_id=f"e{round}-{i}",
                parent_ids=[f"p{i}"],
                task_id=f"t{i}",
                kind=kind,
                record="revision",
                round=round,
                method="agent_r",
                model="m@abc",
                sampling={"temperature": 1.0},
                verdict={"score": 1.0},
            ),
            turns=conversation(i),
        )
        for i in range(count)
    ]


class Words:
    """A tokenizer with a token for each word.

    `forgets` takes earlier turns of the assistant out, as templates of thinking models do.
    """

    def __init__(self, forgets: bool = False) -> None:
        self.forgets, self.known = forgets, {}

    def apply_chat_template(self, messages, tokenize, return_dict, add_generation_prompt=False):
        words = []
        for i, m in enumerate(messages):
            content = (
                "" if self.forgets and m["role"] == "assistant" and i < len(messages) - 1 else m["content"]
            )
            words += [f"<{m['role']}>", *content.split(), "<end>"]
        words += ["<assistant>"] if add_generation_prompt else []
        return {"input_ids": [self.known.setdefault(w, len(self.known)) for w in words]}


def test_the_schema_is_the_golden_one() -> None:
    assert TURNS.version == 1
    assert {field.name: str(field.type) for field in TURNS.features.arrow_schema} == GOLDEN
    assert list(TURNS.features) == list(GOLDEN) == list(make_episodes(1)[0])
    assert TRL_NAMES & TURNS.features.keys() == {"input_ids", "labels"}, (
        "no messages that could be trained on without the mask"
    )
    row = make_episodes(1)[0]
    assert digest(TURNS.features.encode_example(dict(row))) == digest(row)


def test_both_loaders_give_the_same_episodes_and_counts_add_up(tmp_path) -> None:
    made = list(measure(make_episodes(9), Words(), TURNS))
    manifest = publish(iter(made), tmp_path / "d", FACTS, 1, TURNS)
    mapped = load_from_disk(str(tmp_path / "d"))["train"]
    cached = load_dataset(str(tmp_path / "d"), split="train", cache_dir=str(tmp_path / "cache"))
    assert mapped.features == cached.features == TURNS.features and mapped.to_list() == cached.to_list()
    assert {row["row_id"]: row for row in mapped} == {row["row_id"]: row for row in made}
    assert whole_lengths(mapped, TURNS).tolist() == [len(row["input_ids"]) for row in mapped]
    assert shares(mapped) == {"real": 0, "synthetic": 9, "rounds": {"1": 9}} and list(manifest["tokens"]) == [
        "context",
        "loss",
        "whole",
    ]
    card = (tmp_path / "d" / "README.md").read_text()
    assert (
        "`input_ids` and `labels` are what a trainer reads" in card
        and "trl sft" in card
        and "9 conversations" in card
    )


def test_labels_are_the_turns_with_loss_word_by_word() -> None:
    words = Words()
    ids, labels = mask_turns(words, conversation())
    names = {number: word for word, number in words.known.items()}
    learnt = [names[label] for label in labels if label != IGNORED]
    assert learnt == ["Thought:", "sorry.", "Action:", "reflect", "<end>", "Action:", "go", "right", "<end>"]
    assert [i for i, label in zip(ids, labels, strict=True) if label != IGNORED] == [
        label for label in labels if label != IGNORED
    ]


def test_a_template_that_changes_earlier_turns_is_refused() -> None:
    with pytest.raises(DataError, match="only ever appends"):
        mask_turns(Words(forgets=True), conversation())


def test_an_observation_never_has_loss() -> None:
    turns = conversation()
    turns[3]["loss"] = True
    with pytest.raises(DataError, match="turns of the assistant"):
        mask_turns(Words(), turns)


def test_rows_without_tokens_or_without_loss_are_refused(tmp_path) -> None:
    silent = make_episodes(1)[0] | {"turns": [{**t, "loss": False} for t in conversation()]}
    for rows in (make_episodes(2), list(measure([silent], Words(), TURNS))):
        with pytest.raises(DataError, match="none of its tokens has loss"):
            publish(rows, tmp_path / "d", FACTS, 0, TURNS)
    assert not (tmp_path / "d").exists()
