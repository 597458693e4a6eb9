"""New questions: what a request shows, how its reply is read, and each reason for which one is not asked."""

# ruff: noqa: RUF001

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.protocols import Proposals
from pipeline.rows import Row
from stages.steps.new_questions import Known, drop_near_duplicates, questions_in, requests, well_formed

POOL = [
    Known("a", "Tom has 12 nuts and eats 5 of them. How many nuts are left?"),
    Known("b", "Calculate 4 + 19 - 3."),
]


def rows(*questions: str) -> list[Row]:
    return [Row(f"r{i:02d}", {"question": q}) for i, q in enumerate(questions)]


def outcome(step: Any, given_: list[Row]) -> dict[str, str]:
    return {
        row.payload["question"]: verdict.reason if verdict else ""
        for row, verdict in step(lambda: iter(given_))
    }


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Ann has 1,200 books and sells 30.5 of them. How many are left?", ""),
        ("Calculate 7 + 0.5 - 3.", ""),
        ("Calculate 7 + 5", ""),
        ("Why?", "too_short"),
        ("How many " + "very " * 30 + "many?", "too_long"),
        ("Here are some more tasks for you:", "not_a_question"),
        ("Calculate 4,5,6 + 3.", "malformed_number"),
        ("Calculate 4..5 + 3.", "malformed_number"),
        ("Calculate 12,34 + 3.", "malformed_number"),
    ],
)
def test_well_formed(question: str, reason: str) -> None:
    assert outcome(well_formed(lambda: POOL), rows(question)) == {question: reason}


@pytest.mark.parametrize(
    ("known", "question", "reason"),
    [
        ("小明有三个苹果，吃了一个，还剩几个？", "小红有五支铅笔，丢了两支，还剩几支？", ""),
        ("小明有三个苹果，吃了一个，还剩几个？", "下面是更多的题目，请你逐个作答：", "not_a_question"),
        ("小明有三个苹果，吃了一个，还剩几个？", "几个？", "too_short"),
        (
            "りんごが三個あります。一個食べました。残りは何個ですか。",
            "鉛筆が五本あります。二本なくしました。残りは何本ですか。",
            "",
        ),
        ("كم عدد التفاحات المتبقية؟", "كم عدد الأقلام المتبقية؟", ""),
    ],
)
def test_questions_of_other_scripts(known: str, question: str, reason: str) -> None:
    assert outcome(well_formed(lambda: [Known("a", known)]), rows(question)) == {question: reason}


def test_near_duplicates_of_known_and_of_new_questions_are_dropped() -> None:
    same = "tom has 12 nuts and eats 6 of them; how many nuts are left?"
    first, second = (
        "A train runs for 3 hours. How far does it get?",
        "A train runs for 4 hours. How far does it get?",
    )
    found = outcome(
        drop_near_duplicates(lambda: POOL, 0.7), rows(same, first, second, "Calculate 4 + 19 - 3.")
    )
    assert found == {
        same: "near_duplicate",
        first: "",
        second: "near_duplicate",
        "Calculate 4 + 19 - 3.": "near_duplicate",
    }
    assert outcome(drop_near_duplicates(lambda: POOL, 1.0), rows(same, "Calculate 4 + 19 - 3")) == {
        same: "",
        "Calculate 4 + 19 - 3": "near_duplicate",
    }
    detail = next(
        verdict.detail for _, verdict in drop_near_duplicates(lambda: POOL, 0.7)(lambda: iter(rows(same)))
    )
    assert detail == "ROUGE-L 0.93 with: Tom has 12 nuts and eats 5 of them. How many nuts are left?"


@given(st.lists(st.text("ab ", min_size=1, max_size=9), max_size=12), st.randoms())
def test_what_is_kept_does_not_depend_on_the_order(texts: list[str], random: Any) -> None:
    given_ = rows(*texts)
    before = {
        row.id: verdict for row, verdict in drop_near_duplicates(lambda: POOL, 0.7)(lambda: iter(given_))
    }
    shuffled = random.sample(given_, len(given_))
    assert {
        row.id: verdict for row, verdict in drop_near_duplicates(lambda: POOL, 0.7)(lambda: iter(shuffled))
    } == before and len(before) == len(given_)


def test_a_reply_is_read_line_by_line() -> None:
    text = "1. One is here?\n\n2) Two is here?\n - 3 is here?\n* 1. Four?\n1.\n12: Five 6. is?\nOne is here?"
    assert questions_in(text) == ["One is here?", "Two is here?", "3 is here?", "1. Four?", "Five 6. is?"]
    assert questions_in(" \n1.\n - \n") == []


@pytest.mark.parametrize(
    "text",
    [
        "**1.** How many are 3 and 4?\n**2.** Calculate 7 + 12.",
        "1. **How many are 3 and 4?**\n2. **Calculate 7 + 12.**",
        "Task 1: How many are 3 and 4?\n\nTask 2: Calculate 7 + 12.",
        "1. **Task:** How many are 3 and 4?\n2. **Task:** Calculate 7 + 12.",
        "**Problem 1**: How many are 3 and 4?\n**Problem 2**: Calculate 7 + 12.",
        "- Question 1: How many are 3 and 4?\n- Question 2: Calculate 7 + 12.",
        '1. "How many are 3 and 4?"\n2. "Calculate 7 + 12."',
        "\u2022 How many are 3 and 4?\n\u2022 Calculate 7 + 12.",
        "```\n1. How many are 3 and 4?\n2. Calculate 7 + 12.\n```",
        '```json\n["How many are 3 and 4?", "Calculate 7 + 12."]\n```',
        'Here: [{"question": "How many are\\n3 and 4?", "answer": 7}, {"question": "Calculate 7 + 12."}]',
    ],
)
def test_questions_as_chat_models_list_them(text: str) -> None:
    assert questions_in(text) == ["How many are 3 and 4?", "Calculate 7 + 12."]


@pytest.mark.parametrize(
    "text",
    ["Solve: 3 + 4", "10 + 5: what is it?", "What is [3 + 4] * 2?", "**A** and B?", '"A" and B?', "[1, 2]"],
)
def test_what_belongs_to_a_question_stays(text: str) -> None:
    assert questions_in(text) == [text.replace("**", "")]


def test_requests_show_real_and_model_made_questions_and_differ() -> None:
    real, made = (
        [Known(f"r{i}", f"Real {i}?") for i in range(40)],
        [Known(f"m{i}", f"Made {i}?") for i in range(5)],
    )
    plan = Proposals(calls=6, shown=8, max_rouge=0.7)
    found = requests(real, made, plan, seed=3, round_=4)
    assert found == requests(real, made, plan, seed=3, round_=4) and len({row.id for row in found}) == 6
    questions = dict([*real, *made])
    for row in found:
        assert row.payload["shown"] == [questions[i] for i in row.parents] and len(set(row.parents)) == 8
        assert sum(i.startswith("m") for i in row.parents) == 2
    assert not {row.id for row in found} & {row.id for row in requests(real, made, plan, seed=3, round_=5)}
    assert all(i.startswith("r") for row in requests(real, [], plan, seed=3, round_=3) for i in row.parents)
