"""A training worker that died: why, in one line, and what Ray keeps reserved for it."""

from collections.abc import Mapping

import ray
from ray import PlacementGroupID
from ray.exceptions import OutOfMemoryError
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

# What the others say when a worker dies, by way of gloo and NCCL.
_PEER_GONE = ("gloo/transport", "closed by peer", "reset by peer", "NCCL", "remote worker")


def is_a_death(error: BaseException) -> bool:
    """Tell whether a worker is gone, or another one that it talked to is."""
    return type(error).__module__.startswith("ray.") or any(sign in str(error) for sign in _PEER_GONE)


def for_memory(failures: Mapping[int, BaseException]) -> bool:
    """Tell whether Ray killed a worker because its machine's memory was nearly full."""
    return any(isinstance(cause, OutOfMemoryError) for cause in _causes(failures))


def reason(failures: Mapping[int, BaseException]) -> str:
    """Say in one line what `failures` (rank: error) of Ray Train come from; Ray's own texts fill a screen."""
    if for_memory(failures):
        return (
            "Ray ended it because the machine's memory was nearly full. End what else needs memory, or lower "
            "train.micro_batch_size; RAY_memory_usage_threshold moves the limit, 0.95 by default"
        )
    causes = _causes(failures)
    lines = dict.fromkeys(str(cause).strip().split("\n")[0] or type(cause).__name__ for cause in causes)
    return "; ".join(lines)


def _causes(failures: Mapping[int, BaseException]) -> list[BaseException]:
    return [getattr(e, "health_check_failure", e) for _, e in sorted(failures.items())]


def reserved() -> set[str]:
    """Return the ids of the placement groups that this job holds in Ray: the end of an id is its job's."""
    job = ray.get_runtime_context().get_job_id()
    table = placement_group_table()
    return {key for key, group in table.items() if key.endswith(job) and group["state"] != "REMOVED"}


def release(groups: set[str]) -> None:
    """Give back what Ray keeps reserved. Ray Train leaves its placement group behind when a helper actor of
    its own dies with the worker, as it does for lack of memory; the next training would wait for it forever.
    """
    for group in groups:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
