"""Checkpoints that are known to be whole: a process can be killed at any moment, also in the middle of writing one."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.store.files import read_json, sync_folder, write_json

MARK = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class MarkComplete(TrainerCallback):
    """Puts a file with the sizes of all others into a checkpoint when every worker has written and synced its part."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # each worker writes its own random state
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        for file in _files(folder):
            with open(file, "rb") as f:
                os.fsync(f.fileno())
        sync_folder(str(folder))
        write_json(str(folder / MARK), {str(f.relative_to(folder)): f.stat().st_size for f in _files(folder)})


@contextmanager
def alone(lock: str | Path) -> Iterator[None]:
    """Wait until no other process trains here: the worker of a killed driver may live a few seconds longer than it."""
    with open(lock, "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)  # the system gives it back however the process ends
        yield


def is_complete(folder: Path) -> bool:
    """Tell whether a checkpoint has its mark, and every file that the mark names in full length."""
    if not (folder / MARK).exists():
        return False
    sizes = read_json(str(folder / MARK))
    return all(
        (folder / name).exists() and (folder / name).stat().st_size == size for name, size in sizes.items()
    )


def last_complete(output_dir: str | Path) -> Path | None:
    """Return the checkpoint to resume from: of those that are complete, the one with the most steps."""
    return next((folder for folder in reversed(_checkpoints(output_dir)) if is_complete(folder)), None)


def remove_torn(output_dir: str | Path) -> list[str]:
    """Remove checkpoints that are not complete and return their names. Call it only while nothing trains."""
    torn = [folder for folder in _checkpoints(output_dir) if not is_complete(folder)]
    for folder in torn:
        shutil.rmtree(folder)
    return [folder.name for folder in torn]


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """All checkpoint folders, complete or not, fewest steps first."""
    found = [
        (int(m[1]), f)
        for f in Path(output_dir).glob("checkpoint-*")
        if (m := _NAME.fullmatch(f.name)) and f.is_dir()
    ]
    return [folder for _, folder in sorted(found)]


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_file() and f.name != MARK)
