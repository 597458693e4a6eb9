"""Row filters and the cap per question."""

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Recipe
from pipeline.errors import ConfigError
from pipeline.rows import Dropped, Kept, Row
from stages.steps import filters, loops
from stages.steps.filters import cap_per_question, repeated
from tests.conftest import tiny_recipe
from tests.stages.steps import worked


def outcome(text: str, finish_reason: str = "stop", tokens: int = 10, **settings):
    recipe = Recipe(name="r", tasks={"source": "jsonl", "path": "x"}, filters=settings)
    row = Row("a", {"text": text, "finish_reason": finish_reason, "completion_tokens": tokens})
    return asyncio.run(cloudpickle.loads(cloudpickle.dumps(filters.stage(recipe))).row(row, None))


def reason(text: str, *args, **settings) -> str:
    result = outcome(text, *args, **settings)
    return "" if isinstance(result, Kept) else result.reason


def test_a_sound_answer_passes_unchanged():
    kept = outcome("2 + 3 = 5\n\nAnswer: 5")
    assert kept.rows[0].payload["text"] == "2 + 3 = 5\n\nAnswer: 5"
    assert kept.rows[0].parents == ["a"]


def test_fault_17_drops_are_named_and_keep_the_text():
    assert outcome("so I", "length", 512) == Dropped("truncated", "ended by length after 512 tokens", "so I")


def test_each_filter():
    assert reason(" \n") == "empty_answer"
    assert reason("so I", "length", drop_truncated=False) == ""
    assert reason("5", "stop", 1, min_tokens=2) == "too_few_tokens"
    assert reason("5", "stop", 0, min_tokens=2) == "", "an endpoint that does not count tokens"
    assert (
        reason("so I", "content_filter") == "truncated"
        and reason("so I", "content_filter", drop_truncated=False) == ""
    )
    assert reason("5", "stop", 9, max_tokens=8) == "too_many_tokens"
    assert reason("5", "stop", 8, max_tokens=8, min_tokens=8) == ""


@pytest.mark.parametrize("name", worked.RIGHT)
def test_a_solution_whose_steps_are_worded_alike_is_no_loop(name: str) -> None:
    assert reason(worked.RIGHT[name]) == ""


@pytest.mark.parametrize("name", worked.LOOPS)
def test_a_loop_is_dropped_and_shown(name: str) -> None:
    dropped = outcome(worked.LOOPS[name])
    assert dropped.reason == "repetition" and re.match(r"\d\d% of the text repeats: \S", dropped.detail)
    assert reason(worked.LOOPS[name], repetition_share=None) == ""


@given(st.text(alphabet="ab \n.1\u4e00\ud800", max_size=60), st.integers(1, 30), st.integers(1, 12))
def test_the_share_that_repeats(text: str, times: int, shortest: int) -> None:
    share = loops.repetition(text * times, shortest).share
    assert 0 <= share <= 1
    if (
        times > 9
        and any(c.isalpha() for c in text)
        and len(" ".join(text.split()).encode("utf-8", "replace")) > 1
    ):
        assert share > 0.5


def test_a_solution_that_is_there_twice_is_a_loop_only_when_nothing_else_is_said() -> None:
    solution = "Tom had 20 nuts and ate 5, so 15 are left.\n\\boxed{15}\n"
    assert reason(solution * 2) == "repetition"
    assert (
        reason(solution + "Let us check that with another way: 15 + 5 is 20, as it was.\n" + solution) == ""
    )


def test_counted_repetition_as_older_runs_have_it() -> None:
    """Their run.yaml spells repetition_limit and knows no share: nothing changes for them."""
    sentence = "and then we add the two numbers once more. "
    old = {"repetition_ngram": 8, "repetition_limit": 4}
    assert reason("First. " + sentence * 4, **old) == "repetition"
    assert reason("First. " + sentence * 3, **old) == ""
    assert reason("First. " + sentence * 3, repetition_limit=3) == "repetition"
    assert sentence[:20] in outcome(sentence * 4, **old).detail
    assert reason("ha" * 200, **old) == reason("我们再加一次。" * 40, **old) == "repetition"
    assert reason("-" * 80 + "\nAnswer: 5", **old) == ""
    assert reason(worked.RIGHT["an eight-word phrase four times"], **old) == ""
    assert reason("First. " + sentence * 3, **old, repetition_share=0.4) == "repetition", "both are asked for"


def test_an_old_run_has_the_fingerprint_it_had() -> None:
    filters_ = Recipe(
        name="r",
        tasks={"source": "jsonl", "path": "x"},
        filters={"repetition_ngram": 8, "repetition_limit": 4},
    ).filters
    assert filters_.fingerprint() == {
        "drop_truncated": True,
        "min_tokens": 1,
        "max_tokens": None,
        "repetition_ngram": 8,
        "repetition_limit": 4,
        "drop_duplicates": True,
    }
    assert type(filters_).model_validate(filters_.model_dump(mode="json")) == filters_


def test_short_repeats_are_no_loop():
    assert reason("The digits are 0 0 0 0 0 0 0 0 0 0 0 0.") == ""
    assert reason("The digits are 0 0 0 0 0 0 0 0 0 0 0 0.", repetition_limit=4) == ""
    assert repeated("aaaa", 2, 2) == "aa"
    assert repeated("aaa", 2, 2) is None


A_HALF_AND_AGAIN = "".join(chr(97 + i * i % 26) for i in range(150_000))


@pytest.mark.parametrize(
    "text",
    [
        "a" * 400_000,
        "ab " * 200_000,
        " ".join(map(str, range(60_000))),
        f"{A_HALF_AND_AGAIN}-{A_HALF_AND_AGAIN}",
    ],
)
@pytest.mark.parametrize("settings", [{}, {"repetition_limit": 4}])
def test_repetition_takes_linear_time(text, settings):
    start = time.process_time()
    outcome(text, **settings)
    assert time.process_time() - start < 3


# ---- cap per question ----


def rows_of(sizes: dict[str, int]) -> list[Row]:
    return [Row(f"{q}-{i}", {"task_id": q}) for q, n in sizes.items() for i in range(n)]


def kept(rows: list[Row], n: int, seed: int) -> set[str]:
    return {row.id for row, verdict in cap_per_question(n, seed)(lambda: iter(rows)) if verdict is None}


@given(
    st.dictionaries(st.sampled_from("pqrs"), st.integers(0, 9)),
    st.integers(1, 5),
    st.integers(0, 3),
    st.randoms(),
)
def test_cap_conserves_rows_and_is_independent_of_order(
    sizes: dict[str, int], n: int, seed: int, rng: random.Random
):
    rows = rows_of(sizes)
    results = list(cap_per_question(n, seed)(lambda: iter(rows)))
    assert [row for row, _ in results] == rows
    assert {verdict.reason for _, verdict in results if verdict} <= {"over_cap"}
    assert kept(rows, n, seed) == kept(rng.sample(rows, len(rows)), n, seed)
    by_question = Counter(row_id[0] for row_id in kept(rows, n, seed))
    assert by_question == Counter({q: min(n, size) for q, size in sizes.items() if size})


def test_cap_depends_on_the_seed_and_is_uniform():
    rows = rows_of({"q": 6})
    draws = Counter(row_id for seed in range(600) for row_id in kept(rows, 2, seed))
    assert (
        all(140 < count < 260 for count in draws.values()) and len(draws) == 6
    )  # 200 expected, standard deviation 12


def test_cap_is_independent_of_the_hash_seed():
    code = (
        "from tests.stages.steps.test_filters import kept, rows_of; "
        "print(sorted(kept(rows_of({'q': 9}), 3, 1)))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": h, "PYTHONPATH": "."},
            capture_output=True,
            check=True,
        ).stdout
        for h in ("0", "1")
    }
    assert len(outputs) == 1


def test_a_cap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        cap_per_question(0, 0)


class NoApologies:
    """A filter of one's own."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def __call__(self, row: Row) -> tuple[str, str] | None:
        found = [word for word in self.words if word in row.payload["text"]]
        return ("apology", found[0]) if found else None


def is_shouted(row: Row) -> tuple[str, str] | None:
    return ("shouted", "") if row.payload["text"].isupper() else None


OWN = [
    {"use": "tests.stages.steps.test_filters:NoApologies", "words": ["sorry"]},
    "tests.stages.steps.test_filters:is_shouted",
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("I am sorry.", "apology"), ("FOUR", "shouted"), ("Four.", None), (" ", "empty_answer")],
)
async def test_own_filters(text: str, reason: str | None) -> None:
    stage = filters.stage(tiny_recipe(filters={"own": OWN}))
    payload = {"text": text, "completion_tokens": 3, "finish_reason": "stop"}
    outcome = await stage.row(Row("a", payload), None)
    assert getattr(outcome, "reason", None) == reason
    assert stage.config["own"] == OWN and "own" not in filters.stage(tiny_recipe()).config


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ("nowhere:Filter", "cannot be imported"),
        ("tests.stages.steps.test_filters:NoApologies", "cannot be built with {}"),
        ({"words": []}, "names no filter"),
        ({"use": "tests.stages.steps.test_filters:is_shouted", "loud": 1}, None),
        ("tests.stages.steps.test_filters:OWN", "cannot be built"),
    ],
)
def test_own_filters_that_cannot_be_used(own: Any, problem: str | None) -> None:
    recipe = tiny_recipe(filters={"own": [own]})
    if problem is None:  # a function's options can only be checked by calling it
        filters.stage(recipe)
        return
    with pytest.raises(ConfigError, match=re.escape(problem)):
        filters.stage(recipe)
