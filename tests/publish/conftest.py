"""Small published rows, and the packaged model's tokenizer."""

from collections.abc import Callable

import pytest

from pipeline.publish.card import CardFacts
from pipeline.publish.preference import PairRow, pair_row
from pipeline.publish.schema import PublishedRow, published_row

FACTS = CardFacts(
    "Test data",
    "direct",
    "m@abc",
    1,
    stages={
        "generate": {"in": 10, "kept": 7, "dropped": 3, "failed": 0},
        "verify": {"in": 7, "kept": 4, "dropped": 3, "failed": 0},
    },
    dropped={"verify: wrong_answer": 3, "generate: truncated": 3},
    notes=("n-gram overlap with held-out questions: 13 words",),
)


def make_rows(count: int, round: int = 1, kind: str = "synthetic", words: int = 3) -> list[PublishedRow]:
    """Return `count` rows of one round; the i-th answer has `words` + i % 5 words."""
    return [
        published_row(
            [{"role": "user", "content": f"What is {i} + {round}?"}],
            [{"role": "assistant", "content": " ".join(["so"] * (words + i % 5)) + f" {i + round}"}],
            row_id=f"r{round}-{i}",
            parent_ids=[f"p{i}"],
            task_id=f"t{i}",
            kind=kind,
            round=round,
            method="direct",
            model="m@abc" if kind == "synthetic" else "",
            sampling={"temperature": 1.0},
            verdict={"correct": True},
        )
        for i in range(count)
    ]


def make_pairs(count: int, round: int = 1, words: int = 3) -> list[PairRow]:
    """Return `count` pairs of one round; the i-th chosen answer has `words` + i % 5 words, the rejected one about as many."""
    return [
        pair_row(
            [{"role": "user", "content": f"What is {i} + {round}?"}],
            [{"role": "assistant", "content": " ".join(["so"] * (words + i % 5)) + f" {i + round}"}],
            [{"role": "assistant", "content": " ".join(["hm"] * (words + i % 3)) + f" {i + round + 1}"}],
            row_id=f"p{round}-{i}",
            parent_ids=[f"c{i}", f"r{i}"],
            task_id=f"t{i}",
            round=round,
            method="direct",
            models=("m@abc", "m@abd"),
            sampling={"temperature": 1.0},
            verdicts=({"correct": True}, {"correct": False, "problem": "wrong_answer"}),
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def facts() -> CardFacts:
    return FACTS


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[PublishedRow]]:
    return make_rows
