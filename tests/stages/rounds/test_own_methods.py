"""Mistakes in a method of one's own: each is one sentence, before anything runs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.methods import Example, Stage, check_method, check_question, examples_of, load_method
from pipeline.rows import Row
from pipeline.rundir import RunDir
from stages.methods.direct.method import Direct, DirectOptions
from stages.rounds.loop import Loop
from tests.conftest import tiny_recipe


class AnyName(DirectOptions):
    """Options that accept module:Class as the method's name."""

    name: str


class Untold(Direct):
    """A user's method with a stage whose template does not exist."""

    Options = AnyName

    def stages(self) -> dict[str, Any]:
        return super().stages() | {"critique": Stage(prompts=("direct/slove",))}


class Unstaged(Direct):
    """A user's method whose stages() has a mistake."""

    Options = AnyName

    def stages(self) -> dict[str, Any]:
        return {"generate": self.nothing}


class Functions(Direct):
    """A user's method that returns functions as stages."""

    Options = AnyName

    def stages(self) -> dict[str, Any]:
        return super().stages() | {"verify": len}


class Unlearnt(Direct):
    """A user's method whose examples() and question() have mistakes."""

    Options = AnyName

    def examples(self, row: Row) -> Any:
        return [Example(self.question(row), [row.payload["refined"]])]


class Unsure(Direct):
    """A user's method whose examples() divides by zero."""

    Options = AnyName

    def examples(self, row: Row) -> Any:
        return [1 / 0]


class Unread(Direct):
    """A user's method whose examples() returns texts."""

    Options = AnyName

    def examples(self, row: Row) -> Any:
        return [row.payload["text"]]


class Unasked(Direct):
    """A user's method whose question() is a text."""

    Options = AnyName

    def question(self, row: Row) -> Any:
        return row.payload["question"]


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        (
            "Unlearnt",
            examples_of,
            r"direct: examples\(\) fails on row r: payload key 'refined' is missing",
        ),
        (
            "Unsure",
            examples_of,
            r"raises ZeroDivisionError: .* on row r, whose payload has question, text .*py:",
        ),
        ("Unread", examples_of, "A is no Example"),
        ("Unasked", check_question, "question\\(\\) returns Q; expected a list of messages"),
    ],
)
def test_a_mistake_in_a_method_of_ones_own_is_one_sentence(name: str, function: Any, said: str) -> None:
    method = load_method(tiny_recipe(method={"name": f"tests.stages.rounds.test_own_methods:{name}"}))
    with pytest.raises(ConfigError, match=said):
        function(method, Row("r", {"question": "Q", "text": "A"}))


@pytest.mark.parametrize("name", ["Unlearnt", "Unread", "Unasked"])
def test_questions_and_demonstrations_are_tried_before_anything_runs(tmp_path: Path, name: str) -> None:
    lines = "".join(f'{{"question": "What is {i} + 1?", "answer": {i + 1}}}\n' for i in range(30))
    for file in ("tasks", "worked"):
        (tmp_path / f"{file}.jsonl").write_text(lines.replace("+ 1", "+ 01") if file == "worked" else lines)
    recipe = tiny_recipe(
        tasks={"source": "jsonl", "path": str(tmp_path / "tasks.jsonl")},
        demonstrations={"source": "jsonl", "path": str(tmp_path / "worked.jsonl")},
        held_out={"count": 5},
        method={"name": f"tests.stages.rounds.test_own_methods:{name}"},
    )
    loop = Loop(RunDir(tmp_path / "run"), recipe)
    with pytest.raises(ConfigError, match="fails on row|raises|returns"):
        asyncio.run(loop.iterate(1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Untold", "stage critique: no prompt template direct/slove.jinja .* Did you mean 'direct/solve'"),
        ("Unstaged", r"stages\(\) raises AttributeError: .* has no attribute 'nothing'"),
        ("Functions", "as verify; expected a Stage"),
    ],
)
def test_stages_and_their_templates_are_checked(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_method(
            load_method(tiny_recipe(method={"name": f"tests.stages.rounds.test_own_methods:{name}"}))
        )
