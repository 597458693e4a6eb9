"""What all tests share: one local Ray for the whole session, started when the first test asks for it, and tiny recipes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import HealthCheck, settings

import stages  # noqa: F401 - makes the built-in methods, sources and verifiers known
from pipeline.config import Recipe, build_recipe
from pipeline.rundir import RunDir

settings.register_profile("no_deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Any]:
    """Ray on this machine, as `python -m jobs.*` starts it."""
    import ray

    from pipeline import cluster

    os.environ.pop("RAY_ADDRESS", None)
    cluster.connect()
    yield ray
    ray.shutdown()


def tiny_recipe(**changes: Any) -> Recipe:
    """Return a recipe with the scripted engine; `changes` are its top-level sections, as in YAML."""
    small = {
        "name": "test",
        "engine": {"kind": "scripted"},
        "tasks": {"source": "jsonl", "path": "tasks.jsonl"},
    }
    return build_recipe({**small, **changes})


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """The function `tiny_recipe`."""
    return tiny_recipe


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """An empty run directory."""
    return RunDir(tmp_path / "run")
