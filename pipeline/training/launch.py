"""The driver's side of a training: data and settings on disk, Ray Train workers, the stored result."""

import importlib.metadata
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from pipeline import cluster
from pipeline.errors import ConfigError, SelfloopError, StageError, StaleError
from pipeline.estimates import folder_size
from pipeline.models import ADAPTER_CONFIG, folder_revision
from pipeline.publish.kinds import SFT
from pipeline.retries import MEMORY_HALVINGS, TRAINING_ATTEMPTS
from pipeline.rundir import differences
from pipeline.store.files import read_json, write_bytes, write_json
from pipeline.store.full import full_disk
from pipeline.training import deaths, memory
from pipeline.training.arguments import token_budget, trainer_arguments, trainer_yaml, wants_bf16
from pipeline.training.checkpoints import remove_torn
from pipeline.training.cpt import prepare_blocks
from pipeline.training.data import TrainingData, prepare_data
from pipeline.training.progress import REWARDS, Line, cut_torn_line, draw_loss, following, read_progress
from pipeline.training.spec import REFERENCE_FILE, TEMPLATE_FILE, TrainResult, TrainSpec, fingerprint
from pipeline.training.workers import cluster_gpus, settled

logger = logging.getLogger(__name__)

# Measured by tests/benchmarks/training.py.
CPU_ENVIRONMENT = {
    # By default glibc returns a step's activations to the kernel and faults them in again at the next. Bytes.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "500000000",
    # oneDNN keeps what it compiled for 1,024 shapes, several GiB where hardly two batches are equally long.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}
GPU_SECONDS = 20
CHECKPOINT_BYTES = 12  # per parameter: weights and both of Adam's moments, in fp32
_LOG_LINES = 15
_PACKAGES = ("torch", "transformers", "trl", "ray", "datasets", "peft")


def train(
    spec: TrainSpec, on_progress: Callable[[Line], None] | None = None, address: str | None = None
) -> TrainResult:
    """Run a training on Ray, at `address` unless connected, and return its result. Progress lines go to
    `on_progress`.

    The same call resumes from the last complete checkpoint after a kill, and returns the stored result after
    the end. Raises StaleError if `spec.work` holds a training of other inputs, ConfigError for settings that
    cannot work here, StageError if there is nothing to train on or the training fails.
    """
    # Absolute paths: Ray's workers have a working directory of their own.
    spec = replace(spec, out=str(Path(spec.out).absolute()), work=str(Path(spec.work).absolute()))
    work, out, inputs = Path(spec.work), Path(spec.out), fingerprint(spec)
    _refuse_other(work / "spec.json", inputs)
    if (work / "train.json").exists() and any((out / n).exists() for n in ("config.json", ADAPTER_CONFIG)):
        return TrainResult(**read_json(str(work / "train.json")))
    write_json(str(work / "spec.json"), inputs)
    if "auto" in (spec.train.workers, spec.train.shard, spec.train.gradient_checkpointing):
        spec = replace(spec, train=settled(spec.train, cluster_gpus(address), folder_size(spec.model.path)))
    if spec.kind.blocks or (spec.train.packing and spec.kind.command == SFT.command):
        spec = spec.with_steps(spec.train.max_length)  # every row of a batch is filled
    data = prepare_blocks(spec) if spec.kind.blocks else prepare_data(spec)
    spec = spec.with_steps(data.tokens / max(1, data.examples))
    cluster.connect(address)
    scaling, threads = _scaling(spec)
    config = worker_config(spec, data, scaling.use_gpu, threads)
    progress = str(config["progress"])
    cut_torn_line(progress)
    with following(progress, on_progress):
        _fit(config, scaling, work)
    return _record(spec, work, data, config, inputs)


def worker_config(spec: TrainSpec, data: TrainingData, use_gpu: bool, threads: int | None) -> dict[str, Any]:
    """Return what the workers are told (see process.train_loop), and write it down as trainer.yaml."""
    work = Path(spec.work)
    # For trainer.yaml and the record; the workers, whose machines may differ, decide on bf16 themselves.
    bf16 = wants_bf16(spec.train.precision, use_gpu)
    arguments = trainer_arguments(spec, data.examples, use_gpu, bf16, data.right)
    if spec.model.chat.template:
        write_bytes(str(work / TEMPLATE_FILE), spec.model.chat.template.encode())
    write_bytes(str(work / "trainer.yaml"), trainer_yaml(spec, arguments, data.folders).encode())
    return {
        "kind": spec.kind.name,
        "model": spec.model.path,
        "chat_template": spec.model.chat.template,
        "stop_ids": list(spec.model.chat.stop),
        "reference": spec.reference.path if spec.reference else None,
        "trust_remote_code": spec.trust_remote_code,
        "datasets": data.folders,
        "arguments": arguments,
        "lora": spec.train.lora.model_dump() if spec.train.lora else None,
        "adapter": spec.adapter,
        "merge": not spec.role,
        "precision": spec.train.precision,
        "attention": spec.train.attention,
        "micro_batch_tokens": token_budget(spec),
        "threads": threads,
        "out": spec.out,
        "progress": str(work / "progress.jsonl"),
        "reference_file": str(work / REFERENCE_FILE),
        "log": str(work / "logs" / "worker.log"),
        "lock": str(work / "lock"),
    }


def _refuse_other(path: Path, inputs: dict[str, Any]) -> None:
    """Raise StaleError if the folder of `path` (spec.json) holds other inputs, or parts of a training."""
    if path.exists():
        if changed := differences(read_json(str(path)), inputs):
            what = "; ".join(f"{key}: was {old!r}, is {new!r}" for key, old, new in changed)
            raise StaleError(
                f"{path.parent} holds a training made from other inputs. What differs: {what}. "
                "Undo the change, use another folder, or delete this one to train again."
            )
        return
    for name in ("train.json", "checkpoints", "dataset", "progress.jsonl"):
        if (path.parent / name).exists():
            raise StaleError(
                f"{path.parent} is half removed: its {path.name} is gone, but {name} is still there. "
                "Delete the rest of that folder, too."
            )


def _scaling(spec: TrainSpec) -> tuple[ScalingConfig, int | None]:
    """Return Ray Train's scaling and the torch threads per worker (None: torch's own default, on GPUs)."""
    train, workers, total = spec.train, spec.train.processes, ray.cluster_resources()
    gpus = train.gpus_per_worker if train.gpus_per_worker is not None else float(total.get("GPU", 0) > 0)
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    share = int(max(nodes) // math.ceil(workers / len(nodes)))
    cpus = train.cpus_per_worker or (1 if gpus else max(1, share))
    for name, one in (("CPU", cpus), ("GPU", gpus)):
        if one * workers > total.get(name, 0):
            raise ConfigError(
                f"train: {workers} workers with {one:g} {name} each do not fit into Ray's cluster, "
                f"which has {total.get(name, 0):g}. Lower train.workers or train.{name.lower()}s_per_worker."
            )
    if gpus:
        _wait_for_gpus(gpus * workers)
    resources = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
    scaling = ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources)
    return scaling, None if gpus else cpus


def _wait_for_gpus(wanted: float) -> None:
    """Give engines that just stopped time to release their GPUs; then warn, as Ray would wait silently."""
    for _ in range(GPU_SECONDS):
        if (free := ray.available_resources().get("GPU", 0)) >= wanted:
            return
        time.sleep(1)
    logger.warning(
        "the training waits for %g GPUs, and %g are free. Other jobs or warm engines hold them: see "
        "`selfloop serve --status`, and stop a pool with `selfloop serve --name NAME --stop`.",
        wanted,
        free,
    )


def _fit(config: dict[str, Any], scaling: ScalingConfig, work: Path) -> None:
    """Run the workers until the model is saved, restarting them when one dies. Raises StageError."""
    # Ray would log all that is printed, also the bytecode that `datasets` lists to fingerprint functions.
    environment = {"RAY_TRAIN_ENABLE_PRINT_PATCH": "0", **({} if scaling.use_gpu else CPU_ENVIRONMENT)}
    run = RunConfig(
        name="train",
        storage_path=str(work / "ray"),
        failure_config=FailureConfig(max_failures=0),
        worker_runtime_env={"env_vars": environment},
    )
    died = halvings = 0
    others = deaths.reserved()
    while True:
        if torn := remove_torn(config["arguments"]["output_dir"]):
            logger.warning("removed unfinished checkpoints: %s", ", ".join(torn))
        try:
            TorchTrainer(_worker, train_loop_config=config, scaling_config=scaling, run_config=run).fit()
            return
        except TrainingFailedError as e:
            failures = getattr(e, "worker_failures", {})
            deaths.release(deaths.reserved() - others)
            if memory.ran_out(failures.values()):
                halvings += 1
                _halve(config, halvings, e)
                continue
            if own := {rank: error for rank, error in failures.items() if not deaths.is_a_death(error)}:
                raise _explain(min(own), own[min(own)], config) from e
            died += 1
            why = deaths.reason(failures) or str(e)
            if died == TRAINING_ATTEMPTS:
                raise StageError(
                    f"training: a worker died {TRAINING_ATTEMPTS} times, often for lack of memory (a lower "
                    f"train.micro_batch_size needs less). {why}\n{_log_end(config, 0)}"
                ) from e
            logger.warning("a training worker died (%s); restarting from the last checkpoint", why)
            changes = memory.halved(config) if deaths.for_memory(failures) else None
            if changes and halvings < MEMORY_HALVINGS:
                halvings += 1
                config |= changes
                logger.warning("with %s in a forward pass, in batches of the same size", memory.size(config))


def _halve(config: dict[str, Any], halvings: int, failure: TrainingFailedError) -> None:
    """Have the workers process half as much at once from now on; `config` is also what is recorded. Raises
    StageError if that is not possible, or has not helped before.
    """
    changes = memory.halved(config)
    if changes is None or halvings > MEMORY_HALVINGS:
        error = next(e for e in failure.worker_failures.values() if memory.ran_out([e]))
        raise memory.out_of_memory(config, error) from failure
    before = memory.size(config)
    config |= changes
    logger.warning(
        "the GPU's memory did not suffice for %s in a forward pass; going on from the last checkpoint with "
        "%s, in batches of the same size",
        before,
        memory.size(config),
    )


def _worker(config: dict[str, Any]) -> None:
    # Imported here: the driver does not need TRL, which takes seconds to import.
    from pipeline.training.process import train_loop

    train_loop(config)


def _explain(rank: int, error: BaseException, config: dict[str, Any]) -> StageError:
    if isinstance(error, SelfloopError):
        return StageError(f"training: {error}")
    checkpoint = CHECKPOINT_BYTES * folder_size(config["model"]).parameters / 2**20
    if full := full_disk(error, config["arguments"]["output_dir"], f"up to {checkpoint:,.0f} MiB"):
        return StageError(f"training: {full}")
    return StageError(
        f"training failed in worker {rank}: {type(error).__name__}: {error}.\n{_log_end(config, rank)}"
    )


def _log_end(config: dict[str, Any], rank: int) -> str:
    path = Path(config["log"]).with_suffix(f".{rank}.log")
    if not path.exists():
        return f"It left no log ({path})."
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join([f"The end of {path}:", *(f"  {line}" for line in lines)])


def _record(
    spec: TrainSpec, work: Path, data: TrainingData, config: dict[str, Any], inputs: dict[str, Any]
) -> TrainResult:
    """Write loss.png and, last of all, train.json; then delete the checkpoints."""
    lines = read_progress(work / "progress.jsonl")
    last: dict[str, Any] = lines[-1] if lines else {"step": 0, "tokens": 0, "seconds": 0.0, "loss": None}
    draw_loss(lines, work / "loss.png", f"{data.examples} {spec.kind.seen}, {spec.model.name}")
    result = TrainResult(
        model=spec.out,
        revision=folder_revision(Path(spec.out)),
        base=str(spec.model),
        steps=last["step"],
        examples=data.examples,
        left_out=data.left_out,
        tokens=last["tokens"],
        seconds=last["seconds"],
        tokens_per_second=round(last["tokens"] / last["seconds"], 1) if last["seconds"] else 0.0,
        final_loss=last["loss"],
        shares=data.shares,
        hyperparameters={**config["arguments"], "precision": config["precision"], "lora": config["lora"]},
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        fingerprint=inputs,
        kind=spec.kind.name,
        rewards={name: last[name] for name in REWARDS if name in last} or None,
    )
    write_json(str(work / "train.json"), asdict(result))
    for leftover in ("checkpoints", "ray", "cache"):
        shutil.rmtree(work / leftover, ignore_errors=True)
    (work / REFERENCE_FILE).unlink(missing_ok=True)
    return result
