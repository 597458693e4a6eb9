"""One vLLM engine for all tests that need one, and an endpoint for each test of the openai engine.

The vLLM engine is a named pool on this process's Ray, as `selfloop serve` starts it.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.config import Recipe
from pipeline.engines.reaper import MARK
from tests.conftest import OWNER, tiny_recipe
from tests.engines.server import LocalServer

ENGINE = {"kind": "vllm", "args": {"max_model_len": 512, "max_num_seqs": 16}}
POOL = "tests"


def engine_processes() -> list[psutil.Process]:
    """The processes that vLLM started for the engines of this process."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            ours = MARK in environment and environment.get(OWNER) == str(os.getpid())
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def serve(*arguments: str) -> str:
    """Run `selfloop serve` in this process."""
    done = CliRunner().invoke(app, ["serve", *arguments, "--name", POOL, "--address", "this-ray"])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    """A local OpenAI-compatible endpoint of a test's own."""
    async with LocalServer() as server:
        yield server


@pytest.fixture(scope="package")
def warm_recipe(local_ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    """A recipe that attaches to a running vLLM engine with the packaged model.

    The engine is started for the first test that asks for it, and ended after the last test of this folder:
    it is large, and tests of `serve` expect a Ray without engines.
    """
    path = tmp_path_factory.mktemp("warm") / "recipe.yaml"
    settings = {"name": "warm", "engine": ENGINE, "tasks": {"source": "jsonl", "path": "tasks.jsonl"}}
    path.write_text(yaml.safe_dump(settings))
    serve(str(path), "--logs", str(Path(path.parent, "logs")))
    yield tiny_recipe(engine=ENGINE, runner={"engine_pool": POOL})
    assert "stopped 1 engines" in serve("--stop")
    assert not engine_processes(), "processes of the engine are left after it was closed"
