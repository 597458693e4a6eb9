"""Checkpoints known to be complete: a process can be killed at any moment, also while it writes one."""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray.train
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.store.files import read_json, sync_folder, write_json
from pipeline.training.progress import ProgressWriter

logger = logging.getLogger(__name__)

MARK = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class MarkComplete(TrainerCallback):
    """Adds the sizes of all files to a checkpoint once every worker has written and synced its part."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # each worker writes its own random state
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != MARK)
        for file in files:
            with open(file, "rb") as f:
                os.fsync(f.fileno())
        sync_folder(str(folder))
        write_json(str(folder / MARK), {str(f.relative_to(folder)): f.stat().st_size for f in files})


class SaveWhenPreempted(TrainerCallback):
    """Writes a checkpoint at once when Ray Train says that a worker's node will be taken away, and says so.

    The training goes on: Ray Train starts its workers again when the node is gone, and the same call resumes
    from this checkpoint.
    """

    def __init__(self, progress: ProgressWriter) -> None:
        self._saved, self._progress = False, progress

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self._saved:
            return
        try:
            info = ray.train.get_preemption_info()  # all workers ask at every step, and get the same answer
        except RuntimeError:  # not started by Ray Train: nobody tells
            self._saved = True
            return
        if info is not None:
            self._saved = control.should_save = control.should_log = True
            note = f"a node is being taken away; writing a checkpoint at step {state.global_step}"
            logger.warning(note)
            self._progress.note = note


@contextmanager
def alone(lock: str | Path) -> Iterator[None]:
    """Wait until no other process trains here: a killed driver's worker may outlive it by seconds."""
    with open(lock, "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)  # released by the kernel however the process ends
        yield


def is_complete(folder: Path) -> bool:
    """Tell whether a checkpoint has its mark and every file that the mark lists, in full length."""
    if not (folder / MARK).exists():
        return False
    sizes = read_json(str(folder / MARK))
    return all((folder / name).exists() and (folder / name).stat().st_size == n for name, n in sizes.items())


def last_complete(output_dir: str | Path) -> Path | None:
    """Return the checkpoint to resume from: the complete one with the most steps."""
    return next((folder for folder in reversed(_checkpoints(output_dir)) if is_complete(folder)), None)


def remove_torn(output_dir: str | Path) -> list[str]:
    """Remove incomplete checkpoints and return their names. Call it only while nothing trains."""
    torn = [folder for folder in _checkpoints(output_dir) if not is_complete(folder)]
    for folder in torn:
        shutil.rmtree(folder)
    return [folder.name for folder in torn]


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """All checkpoint folders, complete or not, fewest steps first."""
    folders = (f for f in Path(output_dir).glob("checkpoint-*") if _NAME.fullmatch(f.name) and f.is_dir())
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))
