"""Held-out questions in the rows: exact, by n-gram, and what is only a template."""

# ruff: noqa: RUF001

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ids import digest
from pipeline.rows import Row
from stages.steps.decontaminate import Asked, digest_of, held_out, is_searched_anew

STORY = "Tom walks to the old mill by the river and counts seven grey geese on the way home"


def row(question: str, text: str = "Answer: 5") -> Row:
    return Row(question, {"question": question, "text": text})


def reasons(held: list[str | Asked], rows: list[Row], ngram: int = 13) -> list[str]:
    step = cloudpickle.loads(cloudpickle.dumps(held_out(held, ngram)))
    return [verdict.reason if verdict else "kept" for _, verdict in step(lambda: iter(rows))]


def test_the_same_question_is_dropped_whatever_its_case_and_spaces():
    assert reasons([STORY + "?"], [row(f" {STORY.upper()}\n"), row("another")]) == ["held_out_exact", "kept"]


def test_a_shared_run_of_words_in_question_or_text_is_dropped():
    part = " ".join(STORY.split()[2:15])
    assert reasons(
        [STORY],
        [row(f"Now {part}, he said"), row("else", f"As {part} was"), row(" ".join(STORY.split()[2:14]))],
    ) == ["held_out_ngram", "held_out_ngram", "kept"]
    [(_, verdict)] = held_out([STORY], 13)(lambda: [row("else", part)])
    assert verdict.detail == part


def test_a_short_held_out_question_matches_exactly_only():
    assert reasons(
        ["12 + 5 ="], [row("12 + 5 ="), row("12 - 5 ="), row("12 + 5 = what", "as 12 + 5 = 17")]
    ) == ["held_out_exact", "kept", "kept"]


TEMPLATE = (
    "State the final answer to the following arithmetic problem with care and without any other words "
    "at all: {} + {} ="
)


@pytest.mark.parametrize("count", [2, 8, 100, 400])
def test_template_text_is_no_leak(count):
    held = [TEMPLATE.format(i, i + 1) for i in range(count)]
    rows = [row(TEMPLATE.format(i, 7000)) for i in range(5000, 5003)]
    assert reasons(held, [*rows, row(held[1]), row("other", held[1])]) == [
        "kept",
        "kept",
        "kept",
        "held_out_exact",
        "held_out_ngram",
    ]


def test_the_template_with_the_beginning_of_its_filling_is_no_leak():
    short = "State the final answer to the following arithmetic problem: {} ="
    held = [short.format(f"{i % 10} + {i // 10 % 10} - {i // 100}") for i in range(500)]
    rows = [row(short.format(f"{i} + {i} - 3 + {i}"), f"{i} + {i} = {2 * i}") for i in range(10)]
    assert reasons(held, [*rows, row("other", f"It said: {held[137]}")]) == [*["kept"] * 10, "held_out_ngram"]


def test_what_a_template_is_filled_with_is_still_a_leak():
    held = [TEMPLATE.format(i, i + 1) for i in range(100)] + [STORY]
    assert reasons(held, [row("Say: " + STORY)]) == ["held_out_ngram"]


def test_repeated_held_out_questions_are_not_taken_for_a_template():
    assert reasons([STORY] * 30, [row("Say: " + STORY)]) == ["held_out_ngram"]


@given(
    st.lists(st.text("ab ", max_size=12)),
    st.lists(st.tuples(st.text("ab ", max_size=12), st.text("ab ", max_size=12))),
    st.integers(1, 3),
)
def test_conservation(held: list[str], drawn: list[tuple[str, str]], ngram: int):
    rows = [Row(str(i), {"question": q, "text": t}) for i, (q, t) in enumerate(drawn)]
    assert [r for r, _ in held_out(held, ngram)(lambda: iter(rows))] == rows


def test_an_ngram_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one word"):
        held_out([], 0)


@pytest.mark.parametrize(
    "question",
    [
        "小明家里有三只猫和两只狗，后来他又从邻居那里收养了一只小猫，请问他现在一共有多少只猫？",
        "太郎くんはりんごを五個持っています。花子さんに二個あげました。残りはいくつですか。",
        "สมชายมีแอปเปิลห้าผล เขาให้เพื่อนไปสองผล เขาเหลือแอปเปิลกี่ผล",
    ],
)
def test_scripts_without_spaces(question: str):
    longer, part = f"请先读题。{question}然后作答。", question[3:27]
    rows = [
        row(question),
        row(f"「{question.rstrip('？。')}」"),
        row(longer),
        row("x", f"所以{part}是"),
        row("她有四只鸟吗？"),
    ]
    assert reasons([question], rows) == [*["held_out_exact"] * 2, *["held_out_ngram"] * 2, "kept"]


def test_options_and_earlier_turns_belong_to_the_question():
    def choice(*options: str) -> dict:
        return {"question": "Which is true?", "options": list(options), "text": "A"}

    def chat(first: str) -> dict:
        return {"question": "And then?", "turns": [{"role": "user", "content": first}], "text": "B"}

    held = [Asked.of(choice("Ice is cold", "Ice is hot")), Asked.of(chat("Boil the water."))]
    payloads = [
        choice("ice is  cold.", "Ice is hot"),
        choice("Fire is cold", "Fire is hot"),
        {"question": "Which is true?", "text": "A"},
        chat("Boil the water"),
        chat("Chop the onions."),
    ]
    rows = [Row(str(i), payload) for i, payload in enumerate(payloads)]
    verdicts = [verdict.reason if verdict else "kept" for _, verdict in held_out(held, 13)(lambda: rows)]
    exact = "held_out_exact"
    assert verdicts == [exact, "kept", exact, exact, "kept"]


def test_tasks_of_an_environment_are_alike_without_a_leak():
    payload = {"question": f"You are in a kitchen. {STORY}", "source": {"source": "environment"}}
    assert reasons([Asked.of(payload)], [row(f"You are in a hall. {STORY}"), row(payload["question"])]) == [
        "kept",
        "held_out_exact",
    ]
    assert reasons([Asked.of(payload), STORY], [row("Now: " + STORY)]) == ["held_out_ngram"]


def test_digests_of_plain_questions_are_those_of_their_texts():
    assert digest_of([Asked("a"), Asked("b")]) == digest(["a", "b"])
    assert digest_of([Asked("a", ("x",))]) != digest(["a"])
    assert [is_searched_anew(Asked(q)) for q in ("a b", "多少?", "몇 개?")] == [False, True, False]
