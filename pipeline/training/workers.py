"""Over how many workers a training is spread, and whether they share its weights (train.workers, shard)."""

from collections.abc import Sequence

from pipeline import cluster
from pipeline.checks.machine import Gpu, Machine, gpus
from pipeline.config import Train
from pipeline.errors import ConfigError
from pipeline.estimates import ModelSize, training_need

# Of a GPU's memory that a training may take, by its estimate, before it computes activations again.
KEPT_SHARE = 0.8


def cluster_gpus(address: str | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs of all nodes of the cluster at `address`, or of this machine if Ray starts here."""
    if cluster.is_local(address):
        return gpus()
    cluster.connect(address)
    import ray  # here: most jobs need no Ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    found: list[Gpu] = []
    for node in ray.nodes():
        if count := int(node["Resources"].get("GPU", 0)) if node["Alive"] else 0:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            look = ray.remote(gpus).options(num_cpus=0, scheduling_strategy=there)  # it needs no free GPU
            seen = ray.get(look.remote())
            found += [*seen, *[Gpu("", 0)] * count][:count]  # GPUs that nvidia-smi does not list count, too
    return tuple(found)


def settled(train: Train, found: Sequence[Gpu], size: ModelSize | None = None) -> Train:
    """Return `train` with the number of workers that it has on a cluster with these GPUs; with the `size` of
    the model, also with what `shard: auto` and `gradient_checkpointing: auto` come to.
    """
    each = 1 if train.gpus_per_worker is None else train.gpus_per_worker
    if train.workers == "auto":
        count = max(1, int(len(found) // max(1, each))) if each else 1
        train = train.model_copy(update={"workers": count})
    if size is None:
        return train
    machine = Machine(1, True, 0, tuple(found) if each else ())
    if train.shard == "auto":  # by a training that computes activations again: it needs the least
        need = training_need(size, train.model_copy(update={"shard": "none"}), machine)
        full = train.processes > 1 and bool(machine.gpus) and 0 < need.available < need.total
        train = train.model_copy(update={"shard": "full" if full else "none"})
    if train.gradient_checkpointing == "auto" and machine.gpus:
        kept = training_need(size, train.model_copy(update={"gradient_checkpointing": False}), machine)
        fits = kept.total < KEPT_SHARE * kept.available
        train = train.model_copy(update={"gradient_checkpointing": not fits})
    return train


def check_shares(train: Train, found: Sequence[Gpu]) -> Train:
    """Return `settled`. Raises ConfigError for batches that cannot be split evenly among the workers."""
    known = settled(train, found)
    for key, problem in known.mistakes():
        why = ""
        if train.workers == "auto" and known.processes > 1:
            why = (
                f" (auto: one for each of {len(found)} GPUs). Set a batch size that {known.processes} "
                "divides, or a smaller train.workers"
            )
        raise ConfigError(f"{'.'.join(('train', *key))}: {problem}{why}.")
    return known
