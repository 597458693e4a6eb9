"""Near-duplicates within a round and against earlier ones."""

import random

import pytest

from pipeline.rows import Row
from stages.steps import near_duplicates as module
from stages.steps.dedup import question_of
from stages.steps.near_duplicates import near_duplicates, shingles

WORDS = [f"w{i}" for i in range(5000)]


def row(row_id: str, text: str, question: str = "What is it?") -> Row:
    return Row(row_id, {"question": question, "text": text})


def text_of(rng: random.Random, n: int = 60) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def changed(text: str, *places: int) -> str:
    words = text.split()
    for place in places:
        words[place] = f"{words[place]}x"
    return " ".join(words)


def verdicts(rows, earlier=(), threshold=0.8, asked=question_of, shingle=3) -> dict[str, str]:
    step = near_duplicates(threshold, shingle, lambda: iter(earlier), lambda row: row.payload["text"], asked)
    return {r.id: verdict.detail if verdict else "kept" for r, verdict in step(lambda: iter(rows))}


def test_the_smallest_id_stays_whatever_the_order():
    rng = random.Random(0)
    text = text_of(rng)
    rows = [row("c", text), row("a", changed(text, 30)), row("b", text_of(rng)), row("d", changed(text, 10))]
    for _ in range(5):
        rng.shuffle(rows)
        found = verdicts(rows)
        assert {i for i, verdict in found.items() if verdict == "kept"} == {"a", "b"}
        assert found["c"].startswith("of row a, estimated similarity 0.")
    assert verdicts([row("a", text), row("b", f"  {text.upper()}. ")])["b"].endswith("similarity 1.00")


def test_a_row_is_like_one_that_stays_not_like_one_that_goes():
    """Each text is like the next one, and the ends of the chain are unlike: the middle alone goes."""
    first = text_of(random.Random(1))
    second = changed(first, 5, 15)
    third = changed(second, 30, 45)
    found = verdicts([row("a", first), row("b", second), row("c", third)], threshold=0.75)
    assert [found["a"], found["c"]] == ["kept", "kept"] and "of row a" in found["b"]


def test_other_questions_and_other_answers_are_no_duplicates():
    rng = random.Random(2)
    text, question = text_of(rng), text_of(rng, 40)
    alike = row("a", text, question), row("b", changed(text, 7), changed(question, 20))
    assert "of row a" in verdicts(alike)["b"]
    assert set(verdicts([alike[0], row("b", text, text_of(rng, 40))]).values()) == {"kept"}
    long = " ".join(text_of(rng) for _ in range(50))  # a question that outweighs its answers by far
    assert set(verdicts([row(i, text_of(rng, 20), long) for i in "abcd"]).values()) == {"kept"}


def test_texts_alone_are_compared_where_no_question_is_trained():
    text = text_of(random.Random(3))
    rows = [row("a", text, "one title"), row("b", changed(text, 9), "quite another name")]
    assert "of row a" in verdicts(rows, asked=lambda row: "")["b"]


def test_answers_that_differ_in_a_number_are_kept_if_they_are_short():
    rows = [row(f"{i:03}", f"{i} + 4 = {i + 4}\nAnswer: {i + 4}", f"What is {i} + 4?") for i in range(300)]
    assert set(verdicts(rows).values()) == {"kept"}


def test_earlier_rounds_come_first():
    text = text_of(random.Random(4))
    found = verdicts([row("a", text)], earlier=[(2, row("x", changed(text, 3))), (0, row("y", text))])
    assert found["a"] == "of row y of round 0, estimated similarity 1.00"
    same_id = verdicts([row("a", text)], earlier=[(1, row("a", text))])
    assert same_id["a"].startswith("of row a of round 1")


@pytest.mark.parametrize("language", ["日本語の文章がここにあります", "ภาษาไทยเขียนติดกันโดยไม่มีช่องว่าง"])
def test_scripts_without_spaces_are_compared_by_characters(language):
    text = " ".join(language + chr(0x4E00 + i) for i in range(12))
    found = verdicts([row("a", text), row("b", text.replace(chr(0x4E05), chr(0x5E05)))])
    assert "of row a" in found["b"]


def test_shingles():
    assert shingles("One two, three four.", 3) == ["one two three", "two three four"]
    assert shingles("one two", 3) == ["one two"]
    assert shingles("我是学生", 3) == ["我 是 学", "是 学 生"]
    assert shingles("...", 3) == ["..."] and shingles("", 3) == [""]


def test_odd_texts():
    rows = [row("a", ""), row("b", " "), row("c", "..."), row("d", "!?"), row("é", "x")]
    found = verdicts(rows)
    assert [found[i] for i in "acdé"] == ["kept"] * 4 and "of row a" in found["b"]
    assert verdicts([]) == {}


def test_a_bucket_of_boilerplate_hides_no_near_duplicate(monkeypatch):
    """Texts that share half of their words fill buckets; few of them are compared, and copies are found."""
    monkeypatch.setattr(module, "COMPARED", 8)
    rng = random.Random(5)
    common = text_of(rng, 60)
    texts = [f"{common} {text_of(rng, 30)}" for _ in range(400)]
    rows = [row(f"{i:04}", text) for i, text in enumerate(texts)]
    rows += [row(f"x{i:04}", changed(text, 70)) for i, text in enumerate(texts)]
    found = verdicts(rows)
    assert all(found[f"{i:04}"] == "kept" for i in range(400))
    assert sum(f"of row {i:04}" in found[f"x{i:04}"] for i in range(400)) > 390


def test_the_threshold_decides():
    text = text_of(random.Random(6))
    rows = [row("a", text), row("b", changed(text, 10, 20, 30, 40))]  # 46 of 70 shingles
    assert verdicts(rows, threshold=0.9)["b"] == "kept"
    assert "of row a" in verdicts(rows, threshold=0.5)["b"]
    rows = [row("a", text), row("b", f" {text}"), row("c", changed(text, 10))]
    assert [v == "kept" for v in verdicts(rows, threshold=1).values()] == [True, False, True]
