"""Columns: dotted paths, lists, several right answers, marks, conversations."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Source
from pipeline.errors import ConfigError, DataError
from pipeline.rows import rows_to_table
from stages.steps.verifiers import ground_truth
from stages.tasks import read_demonstrations, read_tasks
from tests.conftest import tiny_recipe


def payload(folder: Path, row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    (folder / "t.jsonl").write_text(json.dumps(row) + "\n")
    [task] = read_tasks(Source(source="jsonl", path=str(folder / "t.jsonl"), **settings), 0).rows
    return task.payload


def refused(folder: Path, row: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(DataError) as e:
        payload(folder, row, **settings)
    return str(e.value)


NESTED = {"a.b": "dot?", "a": {"b": "nested?", "c": [{"d": "first?"}, {"d": "second?"}]}, "answer": 1}


@pytest.mark.parametrize(
    ("column", "question"),
    [
        ("a.b", "dot?"),
        ("a.c.0.d", "first?"),
        ("a.c.-1.d", "second?"),
        ("j.k", "in JSON text?"),
        ("l", "only?"),
    ],
)
def test_paths(tmp_path: Path, column: str, question: str) -> None:
    row = {**NESTED, "j": '{"k": "in JSON text?"}', "l": ["only?"]}
    assert payload(tmp_path, row, columns={"question": column})["question"] == question


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("a.x", "no 'x' in 'a' for the question; there are: 'b', 'c'"),
        ("a.bb", "Did you mean columns.question: 'a.b'?"),
        ("a.c.2", "no item 2 in 'a.c' for the question, which has 2"),
        ("a.b.c.d", "'a.b' is not nested"),
        ("aa.b", "no column 'aa.b' for the question"),
        ("a.c", "is a list of objects; expected messages {role, content} or a text"),
        ("n.x", "is null; expected a text"),
        ("two", "is a list of 2; expected one text"),
    ],
)
def test_paths_that_lead_nowhere(tmp_path: Path, column: str, problem: str) -> None:
    row = {"a": {**NESTED["a"], "b": "nested?"}, "answer": 1, "n": None, "two": ["x?", "y?"]}
    assert problem in refused(tmp_path, row, columns={"question": column})


def test_paths_into_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {"q": [{"text": "?", "when": None}], "a": [{"truth": [{"value": "1.0"}, {"value": "2"}]}]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    columns = {"question": "q.text", "answer": "a.truth.value"}
    [row] = read_tasks(Source(source="parquet", path=str(tmp_path), columns=columns), 0).rows
    assert (row.payload["answer"], row.payload["answers"]) == ("1.0", ["1.0", "2"])


def test_any_of_several_answers_is_right(tmp_path: Path) -> None:
    task = payload(tmp_path, {"question": "?", "answer": [3, "five", 3, None]}, answer_type="text")
    assert (task["answer"], task["answers"]) == ("3", ["3", "five"])
    verdicts = [ground_truth({**task, "text": f"Answer: {text}"}).correct for text in ("3", "FIVE", "4")]
    assert verdicts == [True, True, False]
    one = payload(tmp_path, {"question": "?", "answer": [3]})
    assert one["answer"] == "3" and "answers" not in one
    assert one["task_id"] == payload(tmp_path, {"question": "?", "answer": 3})["task_id"]
    assert "'six' is not a number" in refused(tmp_path, {"question": "?", "answer": [3, "six"]})


MARKS = [
    ("So it is.\n#### 70,000", "####", "70,000"),
    ("#### 1\nNo: #### 2\nmore", "####", "2"),
    ("The answer is:\n  5\n", "The answer is:", "5"),
    ("First \\boxed{1}, then \\boxed{\\frac{1}{2}}.", "boxed", "\\frac{1}{2}"),
    ("\\fbox{\\{7\\}}", "boxed", "\\{7\\}"),
    ("So $\\boxed 5$.", "boxed", "5"),
]


@pytest.mark.parametrize(("text", "mark", "answer"), MARKS)
def test_answers_are_read_by_their_mark(tmp_path: Path, text: str, mark: str, answer: str) -> None:
    row = {"question": "?", "answer": text}
    assert payload(tmp_path, row, answer_type="math", answer_mark=mark)["answer"] == answer


@pytest.mark.parametrize(
    ("text", "mark", "problem"),
    [
        ("17", "####", "there is no '####', which answer_mark asks for"),
        ("####\n \n", "####", "nothing follows '####'"),
        ("\\boxed{1", "boxed", "there is no \\boxed{} that is closed"),
    ],
)
def test_marks_that_are_not_there(tmp_path: Path, text: str, mark: str, problem: str) -> None:
    assert problem in refused(tmp_path, {"question": "?", "answer": text}, answer_mark=mark)


def chat(*turns: tuple[str, Any], keys: tuple[str, str] = ("role", "content")) -> list[dict[str, Any]]:
    return [dict(zip(keys, turn, strict=True)) for turn in turns]


def test_messages_as_questions(tmp_path: Path) -> None:
    turns = chat(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "And 1+1?"))
    for value in (turns, json.dumps(turns), [{**turn, "name": None} for turn in turns]):
        task = payload(tmp_path, {"question": value, "answer": 2})
        assert task["question"] == "And 1+1?" and task["turns"] == turns[:3]
    parts = chat(("user", [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}]))
    assert payload(tmp_path, {"question": parts, "answer": 2})["question"] == "1+1?"
    plain = payload(tmp_path, {"question": "And 1+1?", "answer": 2})
    assert plain["task_id"] != payload(tmp_path, {"question": turns, "answer": 2})["task_id"]
    alone = payload(tmp_path, {"question": chat(("user", "And 1+1?")), "answer": 2})
    assert plain["task_id"] == alone["task_id"]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (chat(("tool", "x")), "message 1 of the question (column 'question') has the role 'tool'; expected"),
        (chat(("narrator", "x"), keys=("from", "value")), "has the from 'narrator'"),
        (chat(("assistant", "x")), "none of which is the user's"),
        (chat(("user", None)), "has a content that is not text"),
        (chat(("user", [{"type": "image_url"}])), "has a content that is not text"),
        (chat(("user", " ")), "is empty"),
    ],
)
def test_messages_that_are_none(tmp_path: Path, messages: list[Any], problem: str) -> None:
    assert problem in refused(tmp_path, {"question": messages, "answer": 2})


def test_the_last_reply_is_the_solution(tmp_path: Path) -> None:
    turns = chat(("user", "1+1?"), ("assistant", "It is 2.\nAnswer: 2"))
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    columns = {"question": "messages", "solution": "messages", "answer": "messages"}
    source = Source(source="jsonl", path=str(tmp_path), columns=columns, answer_mark="Answer:")
    [row] = read_demonstrations(source, 0).rows
    assert (row.payload["solution"], row.payload["answer"]) == ("It is 2.", "2")
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": turns[:1]}) + "\n")
    with pytest.raises(DataError, match="a demonstration needs an answer or a solution|the answer is null"):
        read_demonstrations(source, 0)


def test_answer_is_goes_with_choices() -> None:
    with pytest.raises(ConfigError, match="answer_is: index0 is about choices, but answer_type is number"):
        tiny_recipe(tasks={"source": "jsonl", "path": "x", "answer_is": "index0"})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.floats()
    | st.sampled_from(["A", "1", "", "#### 2", "\\boxed{3}"])
    | st.text("A1.) [{'\n", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "text", "label", "A", "B"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    row=st.dictionaries(st.sampled_from(["q", "a", "o", "s"]), VALUES | VALUES.map(json.dumps), min_size=1),
    paths=st.tuples(*[st.sampled_from(["", ".0", ".text", ".value.-1", ".A"])] * 3),
    answer_mark=st.sampled_from([None, "####", "boxed"]),
    choice=st.sampled_from([None, "unsaid", "index0", "index1", "letter", "text"]),
    demonstration=st.booleans(),
)
def test_no_values_give_anything_but_rows_or_an_error_with_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    row: dict[str, Any],
    paths: tuple[str, ...],
    answer_mark: str | None,
    choice: str | None,
    demonstration: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "values.jsonl"
    path.write_text(json.dumps(row))
    q, a, o = paths
    settings: dict[str, Any] = {"columns": {"question": f"q{q}", "answer": f"a{a}", "solution": "s"}}
    if choice:
        settings["columns"]["options"] = f"o{o}"
        settings |= {"answer_type": "choice", "answer_is": None if choice == "unsaid" else choice}
    source = Source(source="jsonl", path=str(path), answer_mark=answer_mark, **settings)
    try:
        tasks = (read_demonstrations if demonstration else read_tasks)(source, 0)
    except DataError as e:
        assert str(path) in str(e)
    else:
        assert len(tasks.rows) == 1 and rows_to_table(tasks.rows).num_rows == 1
