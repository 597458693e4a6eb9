"""Copies and near-duplicates: what is found, and that the order of rows decides nothing."""

# ruff: noqa: RUF001

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Row
from stages.methods.entigraph.copies import copied, near_duplicates, signature

WORDS = [f"word{i}" for i in range(400)]


def text(rng: random.Random, n: int = 120) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def test_a_longer_run_than_allowed_is_a_copy_whatever_the_white_space() -> None:
    document = "".join(chr(97 + i % 26) + ("\n" if i % 7 == 0 else " ") for i in range(400))
    flat = " ".join(document.split())
    assert copied("x" + flat[50:250].replace(" ", "\n ") + "x", document, 200) == ""
    assert len(copied("y" + flat[50:252] + "y", document, 200)) == 201
    assert copied("short", "short", 200) == ""


@given(st.text("ab \n", max_size=60), st.text("ab \n\U0001f600\ud800", max_size=60), st.integers(1, 12))
def test_the_run_is_the_one_that_comparing_every_window_finds(text: str, document: str, longest: int) -> None:
    flat, source = " ".join(text.split()), " ".join(document.split())
    windows = (flat[i : i + longest + 1] for i in range(len(flat) - longest))
    assert copied(text, document, longest) == next((run for run in windows if run in source), "")


def test_the_share_of_equal_minima_is_about_the_jaccard_similarity() -> None:
    rng = random.Random(0)
    words = text(rng, 200).split()
    for changed in (0, 10, 60, 200):
        other = [*words[:-changed], *(f"new{i}" for i in range(changed))] if changed else words
        a, b = ({" ".join(w[i : i + 3]) for i in range(len(w) - 2)} for w in (words, other))
        estimate = (signature(" ".join(words)) == signature(" ".join(other))).mean()
        assert estimate == pytest.approx(len(a & b) / len(a | b), abs=0.12)


@pytest.mark.parametrize("seed", range(3))
def test_one_of_two_like_texts_of_one_document_stays_in_any_order(seed: int) -> None:
    rng = random.Random(7)
    base = text(rng)
    near = base.rsplit(" ", 1)[0] + " other"
    texts = {"b": base, "a": near, "c": text(rng), "d": base.upper()}
    rows = [Row(i, {"task_id": "doc", "text": t}) for i, t in texts.items()] + [
        Row("e", {"task_id": "other", "text": base})
    ]
    random.Random(seed).shuffle(rows)
    verdicts = {row.id: verdict for row, verdict in near_duplicates(0.8)(lambda: rows)}
    assert {i for i, v in verdicts.items() if v is None} == {"a", "c", "e"}
    assert verdicts["b"].reason == "near_duplicate" and "row a" in verdicts["d"].detail


def test_near_duplicates_in_scripts_without_spaces() -> None:
    text = "光合作用是植物利用光能把二氧化碳和水转化为有机物并释放氧气的过程，是地球上生命的基础。"
    near, other = text.replace("基础", "根基"), "这座城市位于河流的南岸，以桥梁和市场闻名，每年吸引许多游客。"
    assert (signature(text) == signature(near)).mean() > 0.8
    assert (signature(text) == signature(other)).mean() < 0.2
