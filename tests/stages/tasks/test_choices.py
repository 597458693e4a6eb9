"""Options of a choice in every form that data sets have, and answers that name one of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks import read_tasks
from stages.tasks.choices import Choices, read_options
from stages.tasks.records import UnusableError


def read(folder: Path, row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    (folder / "t.jsonl").write_text(json.dumps({"question": "Which?", **row}) + "\n")
    settings = {"answer_type": "choice", "columns": {"options": "o"}} | settings
    [task] = read_tasks(Source(source="jsonl", path=str(folder / "t.jsonl"), **settings), 0).rows
    return task.payload


ABC = ["38", "2.5", "none of these"]


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (ABC, None),
        (json.dumps(ABC), None),
        (repr(ABC), None),
        (repr({"text": ABC, "label": ["A", "B", "C"]}), ["A", "B", "C"]),
        ({"text": ABC, "label": ["A", "B", "C"]}, ["A", "B", "C"]),
        ({"label": ["1", "2", "3"], "text": ABC}, ["1", "2", "3"]),
        ({"A": ABC[0], "B": ABC[1], "C": ABC[2], "D": None}, ["A", "B", "C"]),
        (json.dumps({"A": ABC[0], "B": ABC[1], "C": ABC[2]}), ["A", "B", "C"]),
        ([{"label": label, "text": text} for label, text in zip("ABC", ABC, strict=True)], ["A", "B", "C"]),
        ([{"text": text} for text in ABC], None),
        ("a ) 38 , b ) 2.5 , c ) none of these", ["a", "b", "c"]),
        ("A. 38\nB. 2.5\nC. none of these", ["A", "B", "C"]),
        ("(A) 38 (B) 2.5 (C) none of these", ["A", "B", "C"]),
        ("A) 38; B) 2.5; C) none of these", ["A", "B", "C"]),
        ("1. 38 2. 2.5 3. none of these", ["1", "2", "3"]),
        ("38\n2.5\n\nnone of these\n", None),
        ("38 | 2.5 | none of these", None),
    ],
)
def test_forms_of_options(value: Any, labels: list[str] | None) -> None:
    assert read_options(value, "o") == Choices(ABC, labels)


def test_a_column_for_each_option() -> None:
    assert read_options([*ABC, "", None], ["A", "B", "C", "D", "E"]) == Choices(ABC, ["A", "B", "C"])
    assert read_options(ABC, ["opt1", "opt2", "x.opt3"]) == Choices(ABC, None)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("A or B", "cannot be divided"),
        ("['a' 'b']", "cannot be divided|among 1 options"),
        ("[__import__('os')]", "cannot be divided"),
        ("B) x C) y", "cannot be divided"),
        (["x"], "among 1 options"),
        ({"A": "x", "B": None}, "among 1 options"),
        ({"text": ["x", "y"], "label": ["A"]}, "expected a label for each"),
        ({"choices": ["x", "y"], "labels": [1, 1]}, "expected a label for each"),
        (7, "the options are the number 7"),
        ([["x"], ["y"]], "option 1 is a list"),
        ([*ABC, ""], "option 4 is empty"),
    ],
)
def test_what_are_no_options(value: Any, problem: str) -> None:
    with pytest.raises(UnusableError, match=problem):
        read_options(value, "o")


NUMBERS = ["2", "3", "1", "0"]


@pytest.mark.parametrize(
    ("options", "answer", "answer_is", "letter"),
    [
        (NUMBERS, 1, "index0", "B"),
        (NUMBERS, "1", "index1", "A"),
        (NUMBERS, 1, "text", "C"),
        (NUMBERS, 1.0, "index0", "B"),
        (NUMBERS, "b", "letter", "B"),
        (NUMBERS, "(D)", "letter", "D"),
        (NUMBERS, "D", "index0", "D"),
        (NUMBERS, "B", None, "B"),
        ({"text": NUMBERS, "label": ["1", "2", "3", "4"]}, "2", None, "B"),
        ({"text": NUMBERS, "label": ["1", "2", "3", "4"]}, 2, None, "B"),
        ({"1": "2", "2": "1"}, "2", None, "B"),
        ({"F": "x", "G": "y"}, "G", None, "B"),
        ("a ) 38 , b ) 27 , c ) 30", "c", None, "C"),
        (["Cat", "dog"], "cat", "text", "A"),
        (["A", "B"], "B", "text", "B"),
        (["B", "A"], "B", "text", "A"),
    ],
)
def test_answers(tmp_path: Path, options: Any, answer: Any, answer_is: str | None, letter: str) -> None:
    assert read(tmp_path, {"o": options, "answer": answer}, answer_is=answer_is)["answer"] == letter


@pytest.mark.parametrize(
    ("options", "answer", "answer_is", "problem"),
    [
        (NUMBERS, 1, None, "set answer_is: index0, index1 or text"),
        (NUMBERS, "3", None, "set answer_is"),
        (["x", "y"], 1, None, "set answer_is"),
        (NUMBERS, 4, "index0", "the answer 4 is no index of 4 options"),
        (NUMBERS, 0, "index1", "the answer 0 is no index of 4 options"),
        (NUMBERS, "E", "letter", "is no letter from A to D"),
        (NUMBERS, 1, "letter", "is no letter from A to D"),
        (NUMBERS, 7, "text", "is the text of 0 options"),
        (["x", "X"], " x ", "text", None),
        (["x", "x ", "y"], "X", "text", "is the text of 2 options"),
        (["x", "x", "y"], 0, "index0", "the option 'x' occurs twice"),
        (["x", "x", "y"], "y", None, "the option 'x' occurs twice"),
    ],
)
def test_answers_that_name_none(
    tmp_path: Path, options: Any, answer: Any, answer_is: str | None, problem: str | None
) -> None:
    if problem is None:
        assert read(tmp_path, {"o": options, "answer": answer}, answer_is=answer_is)["answer"] == "A"
        return
    with pytest.raises(DataError) as e:
        read(tmp_path, {"o": options, "answer": answer}, answer_is=answer_is)
    assert problem in str(e.value)


def test_wrong_options_that_are_the_same_do_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, {"o": ["x", "x", "y"], "answer": 2}, answer_is="index0")["answer"] == "C"


def test_a_table_with_a_column_for_each_option(tmp_path: Path) -> None:
    (path := tmp_path / "t.csv").write_text(
        "Question,A,B,C,D,Answer\nWhich?,007,8,9,10,B\nAnd?,x,y,z,,C\nOr?,1,2,3,4,3\n"
    )
    columns = {"question": "Question", "answer": "Answer", "options": ["A", "B", "C", "D"]}
    source = Source(source="csv", path=str(path), columns=columns, answer_type="choice", on_bad_row="skip")
    tasks = read_tasks(source, 0)
    assert [row.payload["options"] for row in tasks.rows] == [["007", "8", "9", "10"], ["x", "y", "z"]]
    assert "set answer_is" in tasks.rejected[0].problem
    wrong = source.model_copy(update={"columns": source.columns.model_copy(update={"options": ["A", "E"]})})
    with pytest.raises(DataError, match="no column 'E' for the options"):
        read_tasks(wrong, 0)


def test_several_right_options(tmp_path: Path) -> None:
    task = read(tmp_path, {"o": ["x", "y", "z"], "answer": [0, 2]}, answer_is="index0")
    assert (task["answer"], task["answers"]) == ("A", ["A", "C"])
