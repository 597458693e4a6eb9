"""Small published rows, and the packaged model's tokenizer."""

from collections.abc import Callable

import pytest

from pipeline.publish.card import CardFacts
from pipeline.publish.kinds import DPO, KTO, SFT
from pipeline.publish.schema import Lineage, PublishedRow

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
        SFT.row(
            Lineage(
                row_id=f"r{round}-{i}",
                parent_ids=[f"p{i}"],
                task_id=f"t{i}",
                kind=kind,
                round=round,
                method="direct",
                model="m@abc" if kind == "synthetic" else "",
                sampling={"temperature": 1.0},
                verdict={"correct": True},
            ),
            prompt=[{"role": "user", "content": f"What is {i} + {round}?"}],
            completion=[
                {"role": "assistant", "content": " ".join(["so"] * (words + i % 5)) + f" {i + round}"}
            ],
        )
        for i in range(count)
    ]


def make_pairs(count: int, round: int = 1, words: int = 3) -> list[PublishedRow]:
    """Return `count` pairs of one round.

    The i-th chosen answer has `words` + i % 5 words, the rejected one about as many.
    """
    return [
        DPO.row(
            Lineage(
                row_id=f"p{round}-{i}",
                parent_ids=[f"c{i}", f"r{i}"],
                task_id=f"t{i}",
                kind="synthetic",
                round=round,
                method="direct",
                chosen_model="m@abc",
                rejected_model="m@abd",
                sampling={"temperature": 1.0},
                chosen_verdict={"correct": True},
                rejected_verdict={"correct": False, "problem": "wrong_answer"},
            ),
            prompt=[{"role": "user", "content": f"What is {i} + {round}?"}],
            chosen=[{"role": "assistant", "content": " ".join(["so"] * (words + i % 5)) + f" {i + round}"}],
            rejected=[
                {"role": "assistant", "content": " ".join(["hm"] * (words + i % 3)) + f" {i + round + 1}"}
            ],
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def facts() -> CardFacts:
    return FACTS


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[PublishedRow]]:
    return make_rows


def make_labeled(count: int, round: int = 1, words: int = 3) -> list[PublishedRow]:
    """Return `count` answers of one round, of which every third is right."""
    return [
        KTO.row(
            Lineage(
                row_id=f"l{round}-{i}",
                parent_ids=[f"a{i}"],
                task_id=f"t{i}",
                kind="synthetic",
                round=round,
                method="direct",
                model="m@abc",
                sampling={"temperature": 1.0},
                verdict={"correct": i % 3 == 0},
            ),
            prompt=[{"role": "user", "content": f"What is {i} + {round}?"}],
            completion=[
                {
                    "role": "assistant",
                    "content": " ".join(["so" if i % 3 == 0 else "no"] * (words + i % 5)) + f" {i + round}",
                }
            ],
            label=i % 3 == 0,
        )
        for i in range(count)
    ]
