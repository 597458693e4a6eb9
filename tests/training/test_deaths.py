"""What is said of a training worker that died, and what becomes of the CPUs that Ray reserved for it."""

from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train import ScalingConfig, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.util import placement_group

from pipeline.training import deaths, launch
from pipeline.training.memory import MICRO, STEPS

OUT_OF_MEMORY = OutOfMemoryError("5 worker(s) were killed due to the node running low on memory.\n" * 9)


def test_lack_of_memory_is_one_line_with_what_to_do() -> None:
    told = deaths.reason({0: WorkerHealthCheckFailedError("A worker health check failed.", OUT_OF_MEMORY)})
    assert deaths.for_memory({0: OUT_OF_MEMORY})
    assert "\n" not in told and "micro_batch_size" in told and "RAY_memory_usage_threshold" in told


def test_other_deaths_are_told_by_their_first_line_once() -> None:
    died = RayActorError(error_msg="The actor died unexpectedly.\nclass_name: RayTrainWorker")
    assert deaths.reason({1: died, 0: WorkerHealthCheckFailedError("A check failed.", died)}) == (
        "The actor died unexpectedly."
    )
    assert not deaths.for_memory({0: died})
    assert deaths.reason({0: ValueError()}) == "ValueError"
    assert deaths.reason({}) == ""


def test_after_a_death_for_memory_half_as_much_goes_through_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[tuple[int, int]] = []

    class Trainer:
        def __init__(self, *_: Any, train_loop_config: dict[str, Any], **__: Any) -> None:
            tried.append((train_loop_config["arguments"][MICRO], train_loop_config["arguments"][STEPS]))

        def fit(self) -> None:
            if len(tried) < 3:
                raise WorkerGroupError("died", {0: OUT_OF_MEMORY})

    monkeypatch.setattr(launch, "TorchTrainer", Trainer)
    monkeypatch.setattr(deaths, "reserved", set)
    arguments = {MICRO: 8, STEPS: 1, "output_dir": str(tmp_path)}
    launch._fit({"kind": "sft", "arguments": arguments}, ScalingConfig(num_workers=1), tmp_path)
    assert tried == [(8, 1), (4, 2), (4, 2)], "once: what else takes the memory may be another program"
    assert "with 4 examples in a forward pass, in batches of the same size" in caplog.text


def test_what_a_training_left_reserved_is_given_back_and_nothing_else(local_ray: Any) -> None:
    kept = placement_group([{"CPU": 0.5}])
    before = deaths.reserved()
    ray.get(placement_group([{"CPU": 0.5}]).ready(), timeout=30)
    assert len(deaths.reserved() - before) == 1
    deaths.release(deaths.reserved() - before)
    assert deaths.reserved() == before
    ray.get(kept.ready(), timeout=30)
    ray.util.remove_placement_group(kept)
