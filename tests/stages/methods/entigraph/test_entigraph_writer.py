"""EntiGraph with a model of its own that writes, and texts that do not name what they are about."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.base import Request
from pipeline.errors import ConfigError
from pipeline.rows import Kept
from pipeline.rundir import RunDir
from stages.methods.entigraph.method import EntiGraph
from stages.methods.entigraph.texts import unnamed
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.stages.methods.entigraph.answers import writes
from tests.stages.methods.entigraph.inputs import write_inputs
from tests.stages.methods.entigraph.scripted import Model, generate, recipe_of, through
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]

SCRIPT = {"kind": "scripted", "answers": "tests.stages.methods.entigraph.answers:writes"}
ENDPOINT = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
SILENT = {"kind": "scripted", "answers": "tests.stages.methods.entigraph.test_entigraph_writer:refuses"}


def refuses(request: Request, index: int) -> str:
    raise AssertionError(f"the round's model is asked for {request.step}")


@pytest.mark.parametrize("faithfulness", [0.0, 0.5])
def test_the_writer_is_asked_for_everything_and_the_rounds_model_for_nothing(
    in_process: None, tiny_model: Path, tmp_path: Path, faithfulness: float
) -> None:
    recipe = tiny_recipe(
        **write_inputs(tmp_path),
        model={"base": str(tiny_model)},
        engine=SILENT,
        method={
            "name": "entigraph",
            "max_triples": 2,
            "faithfulness": faithfulness,
            "writer": {"model": "untrained", "engine": SCRIPT},
        },
    )
    run = RunDir(tmp_path / "run")

    async def stages() -> None:
        freeze(run, run.freeze(recipe))
        async with Loop(run, recipe) as loop:
            for name in ("generate", "critique"):
                await loop.stage(1, name)

    asyncio.run(stages())
    assert run.manifest(run.stage(1, "generate")).requests.sent == 3 * (1 + 10 + 2)
    judged = run.manifest(run.stage(1, "critique")).requests.sent
    assert bool(judged) == bool(faithfulness)


@pytest.mark.parametrize(
    ("writer", "problem"),
    [
        ({"model": "no/such-model-anywhere", "engine": {"kind": "vllm"}}, "method.writer: .*no/such-model"),
        ({"engine": {**ENDPOINT, "api_key_env": "NO_SUCH_KEY"}}, "writer: .*NO_SUCH_KEY"),
    ],
)
def test_a_writer_that_is_not_there_is_said_before_the_first_request(
    in_process: None, tiny_model: Path, tmp_path: Path, writer: Any, problem: str
) -> None:
    recipe = tiny_recipe(
        **write_inputs(tmp_path),
        model={"base": str(tiny_model)},
        engine=SILENT,
        method={"name": "entigraph", "writer": writer},
    )
    run = RunDir(tmp_path / "run")
    with pytest.raises(ConfigError, match=problem):
        asyncio.run(Loop(run, run.freeze(recipe)).iterate(1))
    assert not run.manifest(run.stage(1, "generate"))


@pytest.mark.parametrize(
    ("writer", "problem"),
    [
        ({}, "expected model"),
        ({"engine": {"kind": "vllm"}}, "expected model"),
        ({"model": "a", "engine": ENDPOINT}, "leave out model"),
    ],
)
def test_a_writer_is_a_model_or_an_endpoint(writer: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        EntiGraph(recipe_of(writer=writer))


def test_an_endpoint_serves_no_local_writer() -> None:
    recipe = recipe_of(writer={"model": "a/b"})
    endpoint = tiny_recipe(engine=ENDPOINT).engine
    with pytest.raises(ConfigError, match="method.writer: model a/b is served by vLLM"):
        EntiGraph(recipe.model_copy(update={"engine": endpoint}))


def test_without_a_writer_stages_depend_on_what_they_did() -> None:
    assert "writer" not in EntiGraph(recipe_of()).stages()["generate"].config
    assert "check_names" not in EntiGraph(recipe_of(check_names=False)).stages()["filter"].config


def test_texts_that_do_not_name_what_they_are_about_are_dropped() -> None:
    def forgets(request: Request, index: int) -> str:
        text = writes(request, index)
        return text.replace("Marseille", "a town") if request.step.endswith("relation") else text

    made = generate(model := Model(forgets), max_triples=0).rows
    kept, reasons = through(Kept(made), model)
    assert reasons == {"missing_names": 4} and len(kept) == 7, "4 of 10 pairs have Marseille"
    kept, reasons = through(Kept(made), model, check_names=False)
    assert not reasons and len(kept) == 11


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("The weavers of silver.", []),
        ("the WEAVERS' silver", []),
        ("Silver is a metal.", ["The Weavers"]),
        ("Weavers are many.", ["silver"]),
        ("", ["The Weavers", "silver"]),
    ],
)
def test_what_a_text_does_not_name(text: str, missing: list[str]) -> None:
    assert unnamed(text, "The Weavers", ["silver"]) == missing


def test_a_long_title_is_named_by_half_of_its_words_and_a_chinese_one_by_its_characters() -> None:
    title = "The Collected Letters of a Weaver from Marseille"
    assert unnamed("Collected letters, by a weaver", title, []) == []
    assert unnamed("A weaver", title, []) == [title]
    assert unnamed("\u5317\u4eac\u7684\u6545\u4e8b", "\u5317\u4eac", []) == []
