"""What is said of a training worker that died, and what becomes of the CPUs that Ray reserved for it."""

from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.util import placement_group

from pipeline.training import deaths

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


def test_what_a_training_left_reserved_is_given_back_and_nothing_else(local_ray: Any) -> None:
    kept = placement_group([{"CPU": 0.5}])
    before = deaths.reserved()
    ray.get(placement_group([{"CPU": 0.5}]).ready(), timeout=30)
    assert len(deaths.reserved() - before) == 1
    deaths.release(deaths.reserved() - before)
    assert deaths.reserved() == before
    ray.get(kept.ready(), timeout=30)
    ray.util.remove_placement_group(kept)
