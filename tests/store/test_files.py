"""Files are whole or not there, on local disks and object stores alike."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import DamagedError, SelfloopError
from pipeline.store import files


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder on a disk, and one on an object store."""
    name = str(tmp_path) if request.param == "local" else f"memory://{tmp_path}"
    yield name
    if request.param == "memory":
        files.remove(name)


@contextmanager
def disk_is_full_after(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: writes are first short, then refused, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_written_when_the_block_ends(folder: str) -> None:
    path = files.join(folder, "deep", "er", "x")
    with files.atomic_write(path) as f:
        f.write(b"a" * 100_000)
        assert not files.exists(path)
    assert files.read_bytes(path) == b"a" * 100_000
    assert files.glob(files.join(folder, "deep", "er"), "*") == [path] or "memory" in folder


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_what_failed(folder: str, error: type[BaseException]) -> None:
    path = files.join(folder, "sub", "x")
    with pytest.raises(error), files.atomic_write(path) as f:
        f.write(b"half")
        raise error
    assert not files.exists(path) and files.glob(files.join(folder, "sub"), "*") == []


def test_what_was_there_stays_when_the_new_one_fails(folder: str) -> None:
    path = files.join(folder, "x")
    files.write_bytes(path, b"old")
    with pytest.raises(ValueError), files.atomic_write(path) as f:
        f.write(b"new")
        raise ValueError
    assert files.read_bytes(path) == b"old"
    files.write_bytes(path, b"new")
    assert files.read_bytes(path) == b"new" and len(files.glob(folder, "*")) == 1


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with disk_is_full_after(4096), pytest.raises(OSError):
        files.write_bytes(str(tmp_path / "x"), b"a" * 10_000)
    assert os.listdir(tmp_path) == []


def test_a_failed_sync_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        files.write_bytes(str(tmp_path / "x"), b"a")
    assert os.listdir(tmp_path) == []


def test_json(folder: str) -> None:
    files.write_json(files.join(folder, "x.json"), {"ü": [1, None]})
    assert files.read_json(files.join(folder, "x.json")) == {"ü": [1, None]}
    files.write_bytes(files.join(folder, "torn.json"), b'{"a": ')
    with pytest.raises(DamagedError, match="torn.json: damaged, not valid JSON"):
        files.read_json(files.join(folder, "torn.json"))
    with pytest.raises(FileNotFoundError):
        files.read_json(files.join(folder, "y.json"))


def test_glob_finds_files_of_the_folder_only(folder: str) -> None:
    for name in ("part-2.arrow", "part-1.arrow", "part-3.arrow.x.tmp", "other", "sub/part-4.arrow"):
        files.write_bytes(files.join(folder, name), b"")
    assert [p.rsplit("/", 1)[1] for p in files.glob(folder, "part-*.arrow")] == [
        "part-1.arrow",
        "part-2.arrow",
    ]
    assert files.glob(files.join(folder, "none"), "*") == []
    assert all(files.exists(p) for p in files.glob(folder, "*"))


@pytest.mark.parametrize("name", ["run[1]", "a*", "q?", "{x,y}", "sp ace", "%41"])
def test_folders_whose_names_look_like_patterns(folder: str, name: str) -> None:
    files.write_bytes(files.join(folder, name, "part-1"), b"x")
    assert [files.read_bytes(p) for p in files.glob(files.join(folder, name), "part-*")] == [b"x"]


def test_listings_are_not_cached() -> None:
    """Workers, in other processes, write parts.

    An object store's cached listing would hide them from the driver.
    """
    assert not files.filesystem("memory://x")[0].dircache.use_listings_cache


def test_atomic_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("old", "new"):
        with files.atomic_folder(target) as aside:
            (aside / "sub").mkdir()
            (aside / "sub" / "x").write_text(content)
            assert content == "old" or (target / "sub" / "x").read_text() == "old"
        assert (target / "sub" / "x").read_text() == content
    with pytest.raises(ValueError), files.atomic_folder(target) as aside:
        (aside / "y").write_text("half")
        raise ValueError
    assert os.listdir(tmp_path) == ["model"] and os.listdir(target) == ["sub"]


def test_what_a_kill_left_of_a_folder_goes_and_what_another_process_writes_stays(tmp_path: Path) -> None:
    target, other = tmp_path / "model", tmp_path / "model-2"
    writer = (
        "import os, sys, time\nfrom pipeline.store import files\n"
        "with files.atomic_folder(sys.argv[1]) as a:\n  print(a.name, flush=True)\n  time.sleep(60)"
    )
    killed, alive, neighbour = (
        subprocess.Popen([sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE, text=True)
        for path in (target, target, other)
    )
    names = [process.stdout.readline().strip() for process in (killed, alive, neighbour)]
    for process in (killed, neighbour):
        process.kill()
        process.wait()
    try:
        (tmp_path / ".model.0.old").mkdir()
        for _ in range(2):  # the second time there is one to replace
            with files.atomic_folder(target) as aside:
                (aside / "x").write_text("new")
        assert sorted(os.listdir(tmp_path)) == sorted(["model", *names[1:]]) and os.listdir(target) == ["x"]
    finally:
        alive.kill()
        alive.wait()


def test_remove(folder: str) -> None:
    files.write_bytes(files.join(folder, "a", "b", "c"), b"")
    files.remove(files.join(folder, "a"))
    files.remove(files.join(folder, "a"))
    assert not files.exists(files.join(folder, "a", "b", "c"))


@pytest.mark.parametrize("path", ["s3://bucket/run", "nosuch://x"])
def test_a_file_system_that_is_not_there_is_an_error_for_people(path: str) -> None:
    with pytest.raises(SelfloopError, match="s3fs"):
        files.filesystem(path)
