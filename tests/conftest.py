"""What all tests share: one local Ray per process, trainings without Ray Train's workers, tiny recipes."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        if "local_ray" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Any]:
    """Ray on this machine, as `python -m jobs.*` starts it; one for all tests of a process."""
    import ray

    from pipeline import cluster

    os.environ.pop("RAY_ADDRESS", None)
    cluster.connect()
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def train_in_process(local_ray: Any) -> Iterator[None]:
    """`training_in_process` for all tests of a module."""
    with training_in_process():
        yield


@contextmanager
def training_in_process() -> Iterator[None]:
    """Train in this process, in Ray Train's local mode: for tests of what happens around a training.

    Ray Train's actors and a worker that imports TRL cost 25 s of CPU a training. tests/training and tests/cluster train
    with them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training.launch.TorchTrainer", _local_trainer())
        yield


def _local_trainer() -> type:
    """Return a TorchTrainer without workers, which leaves this process as it was."""
    import torch
    from accelerate.state import AcceleratorState, PartialState
    from ray.train.torch import TorchTrainer

    class LocalTrainer(TorchTrainer):
        def __init__(self, *args: Any, scaling_config: Any, **settings: Any) -> None:
            super().__init__(
                *args, scaling_config=dataclasses.replace(scaling_config, num_workers=0), **settings
            )

        def fit(self) -> Any:
            threads, handlers = torch.get_num_threads(), list(logging.root.handlers)
            try:
                return super().fit()
            finally:
                torch.set_num_threads(threads)
                logging.root.handlers[:] = handlers
                AcceleratorState._reset_state()
                PartialState._reset_state()

    return LocalTrainer


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
