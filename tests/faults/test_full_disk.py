"""A disk that is full while rows, a dataset or a checkpoint are written: one line; the same call resumes.

The disk is a small tmpfs, which only root can mount.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.common import _errors_kept
from pipeline.errors import SelfloopError, StageError
from pipeline.publish.dataset import publish
from pipeline.publish.kinds import measure
from pipeline.rundir import RunDir
from pipeline.store.full import full_disk
from pipeline.training.launch import train
from tests.in_process import stages_in_process
from tests.publish.conftest import FACTS, make_rows
from tests.runner.conftest import Stages
from tests.runner.stage_functions import factory
from tests.training.conftest import rounds, spec_maker, tiny_model, tokenizer  # noqa: F401 - fixtures

FULL = r"its disk is full .* Nothing finished is lost: make room, then start the same command again"


class Disk:
    """A tmpfs of some KiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, kib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kib}k", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield Disk(folder)
    subprocess.run(["umount", "-l", folder], check=True)


async def test_generation(disk: Disk) -> None:
    stages = Stages(RunDir(disk.folder / "run"), rows=400)
    with stages_in_process():
        with pytest.raises(StageError, match=FULL) as e:
            await stages(factory("plain"))
        assert "\n" not in str(e.value) and str(disk.folder) in str(e.value)
        assert (answered := len(stages.log())) > 20
        disk.resize(10_000)
        manifest = await stages(factory("plain"))
    assert manifest.rows_done == 400 and set(stages.inputs().values()) == {1}
    # A reply that was half written is asked for again; it and what was in flight are all.
    assert manifest.requests.from_log + len(stages.inputs()) >= answered and len(stages.log()) == 400


def test_publishing(disk: Disk, tokenizer: Any) -> None:  # noqa: F811
    run, rows = RunDir(disk.folder / "run"), measure(make_rows(3000, 1, "synthetic"), tokenizer)
    folder = disk.folder / "run" / "datasets" / "round-001"
    with pytest.raises(SelfloopError, match=f"{disk.folder}.*{FULL}"), _errors_kept(run):
        publish(rows, folder, FACTS, seed=0)
    assert not folder.exists() and not list(folder.parent.glob(".*")), "nothing half written is left"
    disk.resize(100_000)
    publish(rows, folder, FACTS, seed=0)


@pytest.mark.timeout(500)
def test_training(
    local_ray: Any,
    disk: Disk,
    tiny_model: Path,  # noqa: F811
    rounds: dict[int, Path],  # noqa: F811
) -> None:
    disk.resize(12_000)  # a checkpoint takes 19 MB
    spec = spec_maker(tiny_model, rounds, disk.folder)()
    with pytest.raises(StageError, match=rf"training: .*checkpoints.*up to 18 MiB needed.*{FULL[22:]}") as e:
        train(spec)
    assert "\n" not in str(e.value)
    disk.resize(200_000)
    assert train(spec).steps == 9


def test_what_is_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError) as e, open("/dev/full", "wb", buffering=0) as f:
        f.write(b"x")
    assert str(tmp_path) in (full_disk(e.value, str(tmp_path)) or "")
    wrapped = RuntimeError("it failed")
    wrapped.__cause__ = e.value
    assert full_disk(wrapped, str(tmp_path), "7 MiB") and "7 MiB needed" in str(
        full_disk(wrapped, "/tmp", "7 MiB")
    )
    assert "/dev/shm" in str(full_disk(type("ObjectStoreFullError", (Exception,), {})("x"), "/tmp"))
    for other in (OSError(5, "Input/output error"), ValueError("no"), FileNotFoundError(2, "No such file")):
        assert full_disk(other, str(tmp_path)) is None
    torn = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    assert full_disk(torn, str(tmp_path)) is None, "there is room: something else went wrong"
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    assert full_disk(torn, str(tmp_path))
