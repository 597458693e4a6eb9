"""What is said before anything runs: mistakes in a method of one's own, and settings that do not fit."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_recipe
from pipeline.errors import ConfigError, DataError
from pipeline.methods import Example, Stage, check_method, check_question, examples_of, load_method
from pipeline.places import RECIPES
from pipeline.rows import Row
from pipeline.rundir import RunDir
from stages.methods.direct.method import Direct, DirectOptions
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
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


@pytest.mark.parametrize("name", ["agent_r", "self_lengthen", "entigraph"])
def test_shipped_recipes_pass_and_get_no_advice(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    run = RunDir(tmp_path / "run")
    freeze(run, recipe)
    capsys.readouterr()
    Loop(run, recipe)._try_out()
    assert capsys.readouterr().out == ""


def test_advice_is_one_line_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(RECIPES / "self_lengthen.yaml", ["method.article_words=2000"])
    run = RunDir(tmp_path / "run")
    freeze(run, recipe)
    capsys.readouterr()
    Loop(run, recipe)._try_out()
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("note: method.article_words asks for") and "sampling.max_tokens is 640" in said


def test_general_conversations_are_read_before_the_search(tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"messages": "hello"}\n')
    recipe = load_recipe(RECIPES / "agent_r.yaml", [f"method.general={{path: {chats}}}"])
    run = RunDir(tmp_path / "run")
    freeze(run, recipe)
    with pytest.raises(DataError, match="is not a conversation"):
        Loop(run, recipe)._try_out()
