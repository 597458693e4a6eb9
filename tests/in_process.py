"""Stages and trainings in the test's own process, for tests of what happens around them.

A stage worker on Ray costs seconds to start; Ray Train's actors and a worker that imports TRL cost 25 s of
CPU a training. tests/runner, tests/faults, tests/training and tests/cluster use the real ones.
"""

import dataclasses
import logging
from collections.abc import Container, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import cluster
from pipeline.runner import crew, worker


class _Worker(worker.StageWorkerActor):
    """A stage worker whose methods are called as Ray's are: `worker.submit.remote(...)`."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return SimpleNamespace(remote=found) if callable(found) else found

    async def start(self, finished: Container[str]) -> None:
        self._worker = worker.StageWorker(self._spec)
        await self._worker.start(finished)


def _kill(actor: _Worker) -> None:
    """End what a worker does, as far as that goes in its own process: it must not write rows later on."""
    made = actor.__dict__.get("_worker")
    for task in (*made._tasks, getattr(made, "_flusher", None)) if made else ():
        if task:
            task.cancel()


ACTORS = {(crew, "ray"): crew.ray, (worker.lock, "hold_as_worker"): worker.lock.hold_as_worker}


@contextmanager
def stages_on_ray() -> Iterator[None]:
    """Within `stages_in_process`, run stage workers as Ray actors: one may be killed."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in ACTORS.items():
            patch.setattr(module, name, value)
        yield


@contextmanager
def stages_in_process() -> Iterator[None]:
    """Run stage workers in this process's event loop instead of as Ray actors.

    A worker that dies takes the test along.
    """
    with pytest.MonkeyPatch.context() as patch:
        here = SimpleNamespace(remote=lambda spec: _Worker(spec))
        actors = SimpleNamespace(options=lambda **_: here)
        ray = SimpleNamespace(remote=lambda _: actors, kill=_kill, nodes=lambda: [{"Alive": True}])
        patch.setattr(crew, "ray", ray)
        patch.setattr(cluster, "connect", lambda address=None: None)
        patch.setattr(worker.lock, "hold_as_worker", lambda *_: None)
        yield


@contextmanager
def training_in_process() -> Iterator[None]:
    """Train in this process, in Ray Train's local mode."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", lambda address=None: None)
        patch.setattr("pipeline.training.launch.TorchTrainer", _local_trainer())
        patch.setattr("pipeline.training.deaths.reserved", set)
        patch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
        patch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
        yield


def _local_trainer() -> type:
    """Return a TorchTrainer without workers, which leaves this process as it was."""
    import torch
    from accelerate.state import AcceleratorState, PartialState
    from ray.train import WorkerGroupError
    from ray.train.torch import TorchTrainer

    class LocalTrainer(TorchTrainer):
        def __init__(self, *args: Any, scaling_config: Any, **settings: Any) -> None:
            super().__init__(
                *args, scaling_config=dataclasses.replace(scaling_config, num_workers=0), **settings
            )

        def fit(self) -> Any:
            threads, handlers = torch.get_num_threads(), list(logging.root.handlers)
            precision = torch.get_float32_matmul_precision()  # which bf16 lowers for the whole process
            try:
                return super().fit()
            except Exception as e:
                raise WorkerGroupError(str(e), {0: e}) from e  # as Ray Train tells of its workers
            finally:
                torch.set_num_threads(threads)
                torch.set_float32_matmul_precision(precision)
                logging.root.handlers[:] = handlers
                AcceleratorState._reset_state()
                PartialState._reset_state()

    return LocalTrainer
