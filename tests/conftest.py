"""What all tests share: one local Ray per process, stages and trainings without Ray, tiny recipes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
# Each of Ray Train's own actors takes two seconds of CPU to start, and no test preempts a node.
os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"

import pytest
from hypothesis import HealthCheck, settings

import stages  # noqa: F401 - makes the built-in methods, sources and verifiers known
from pipeline.config import Recipe, build_recipe
from pipeline.rundir import RunDir
from tests.in_process import stages_in_process, stages_on_ray, training_in_process

OWNER = "SELFLOOP_TESTS"  # in the environment of all that this process's Ray starts: this process's id

# No deadlines: the machine may be busy, and where time matters a test measures CPU time itself.
settings.register_profile(
    "default", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ray: starts Ray (set for every test that uses the fixture local_ray)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "local_ray" in fixtures:
            item.add_marker("ray")
        if "in_process" in fixtures:
            item.add_marker("train")
    # It starts an engine of its own: before the one that the other tests share is started.
    items.sort(key=lambda item: item.path.name != "test_vllm_killed.py")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Any]:
    """Ray on this machine, as `python -m jobs.*` starts it; one for all tests of a process."""
    import ray

    from pipeline import cluster

    os.environ.pop("RAY_ADDRESS", None)
    os.environ[OWNER] = str(os.getpid())
    cluster.connect()
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def in_process() -> Iterator[None]:
    """Stages and trainings of a module's tests run in this process, without Ray (tests/in_process.py)."""
    with stages_in_process(), training_in_process():
        yield


@pytest.fixture
def on_ray(in_process: None, local_ray: Any) -> Iterator[None]:
    """Stage workers of this one test are Ray actors."""
    with stages_on_ray():
        yield


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
