"""The request log loses nothing but what was half-written, and says when it cannot write."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store import files, request_log
from pipeline.store.request_log import RequestLogWriter, index, records
from tests.store.test_files import disk_is_full_after


def record(i: int, **more: Any) -> dict[str, Any]:
    return {"key": f"k{i}", "row": f"r{i}", "completions": [{"text": f"Ünïcode\n\u2028\u0085 {i}"}], **more}


def write(folder: Path | str, name: str, *numbers: int) -> None:
    writer = RequestLogWriter(str(folder), name)
    for i in numbers:
        writer.append(record(i))
    writer.close()


def test_what_was_appended_is_found(tmp_path: Path) -> None:
    write(tmp_path, "00000", 0, 1)
    write(tmp_path, "00001", 2)
    found = index(str(tmp_path))
    assert found.damaged == 0 and set(found.places) == {"k0", "k1", "k2"}
    assert [found.read(f"k{i}") for i in range(3)] == [record(i) for i in range(3)]
    assert found.read("k9") is None
    assert set(index(str(tmp_path), {"r1"}).places) == {"k0", "k2"}
    assert [r["key"] for r in records(str(tmp_path))] == ["k0", "k1", "k2"]


def test_an_appended_record_survives_a_kill_of_the_process(tmp_path: Path) -> None:
    """It has left the process when `append` returns: another reader sees it, without sync or close."""
    writer = RequestLogWriter(str(tmp_path), "00000", sync_seconds=1000)
    writer.append(record(1))
    assert index(str(tmp_path)).read("k1") == record(1)
    writer.close()


def test_any_error_of_an_object_store_s_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of them are OSErrors; were one lost, a part would be written without its requests."""
    writer = RequestLogWriter("memory://log", "00000", sync_seconds=0.01)

    def unreachable(*_: Any) -> None:
        raise RuntimeError("EndpointConnectionError")

    monkeypatch.setattr(files, "write_bytes", unreachable)
    writer.append(record(1))
    writer._thread.join(5)  # its own sync meets the error first
    for call in (writer.sync, lambda: writer.append(record(2)), writer.close):
        with pytest.raises(
            OSError, match="the request log cannot be written: RuntimeError: EndpointConnectionError"
        ):
            call()


def test_a_tail_torn_anywhere_loses_that_record_only(tmp_path: Path) -> None:
    write(tmp_path, "00000", 0, 1, 2)
    path = tmp_path / "00000.jsonl"
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    assert whole[start:].startswith(b'{"key":"k2"')
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        found = index(str(tmp_path))
        assert set(found.places) == {"k0", "k1"} and found.damaged == (end > start), end
        assert found.read("k1") == record(1)


def test_the_resumed_writer_never_touches_a_torn_file(tmp_path: Path) -> None:
    write(tmp_path, "00000", 0)
    with open(tmp_path / "00000.jsonl", "ab") as f:
        f.write(b'{"key": "k1", "row"')
    write(tmp_path, "00001", 1)
    found = index(str(tmp_path))
    assert set(found.places) == {"k0", "k1"} and found.damaged == 1


def test_two_writers_never_share_a_file(tmp_path: Path) -> None:
    first = RequestLogWriter(str(tmp_path), "00000")
    with pytest.raises(FileExistsError):
        RequestLogWriter(str(tmp_path), "00000")
    first.close()


@given(
    st.integers(0, 4),
    st.binary(max_size=40)
    | st.sampled_from(
        [
            b"\n",
            b"null\n",
            b"[]\n",
            b'{"key": 1}\n',
            b"\0\0\0",
            b"\xff\xfe\n",
            b'{"key":"k9"}{"row":1}\n',
            b"{" * 2000 + b"\n",
            b"\x0c",
            b"x\n ",
        ]
    ),
)
def test_damage_in_the_middle_is_left_out_and_counted(
    tmp_path_factory: pytest.TempPathFactory, place: int, damage: bytes
) -> None:
    """Damage that is not ended joins the next line, which is lost with it; no other is."""
    folder = tmp_path_factory.mktemp("log")
    write(folder, "00000", 0, 1, 2, 3)
    path = folder / "00000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:place], damage, *lines[place:]]))
    found = index(str(folder))
    unended = damage.rsplit(b"\n", 1)[
        -1
    ]  # what stands before the next line; JSON passes over white space of its own kind
    lost = {f"k{place}"} if place < 4 and unended.strip(b" \t\r") else set()
    assert set(found.places) == {f"k{i}" for i in range(4)} - lost
    assert all(found.read(key)["key"] == key for key in found.places)
    assert bool(found.damaged) == bool(b"\n" in damage or lost or (place == 4 and damage))


def test_threads(tmp_path: Path) -> None:
    writer = RequestLogWriter(str(tmp_path), "00000", sync_seconds=0.001)
    threads = [
        threading.Thread(target=lambda s=s: [writer.append(record(i)) for i in range(s, s + 200)])
        for s in (0, 200, 400)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    writer.close()
    assert len(index(str(tmp_path)).places) == 600 and index(str(tmp_path)).damaged == 0


def test_a_full_disk_is_an_error_and_stays_one(tmp_path: Path) -> None:
    """After a half-written line nothing more may be appended.

    It would be joined to the half line and lost unseen.
    """
    writer = RequestLogWriter(str(tmp_path), "00000", sync_seconds=1000)
    writer.append(record(0))
    size = os.path.getsize(tmp_path / "00000.jsonl")
    with disk_is_full_after(size + 10), pytest.raises(OSError):
        writer.append(record(1))
    for refused in (lambda: writer.append(record(2)), writer.sync):
        with pytest.raises(OSError):
            refused()
    with pytest.raises(OSError):
        writer.close()
    found = index(str(tmp_path))
    assert set(found.places) == {"k0"} and found.damaged == 1


def test_no_space(tmp_path: Path) -> None:
    writer = RequestLogWriter(str(tmp_path), "00000", sync_seconds=1000)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    with pytest.raises(OSError, match="No space left"):
        writer.append(record(0))
    with pytest.raises(OSError, match="No space left"):
        writer.close()


def test_a_failed_sync_is_shown_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RequestLogWriter(str(tmp_path), "00000", sync_seconds=0.01)
    tried = threading.Event()

    def refuse(fd: int) -> None:
        tried.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    writer.append(record(0))
    assert tried.wait(10)
    writer._thread.join(10)
    monkeypatch.undo()
    for use in (lambda: writer.append(record(1)), writer.sync, writer.close):
        with pytest.raises(OSError, match="Input/output"):
            use()


def test_a_sync_waits_for_the_one_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part may be written when `sync` returns.

    It must not return while another thread still syncs the same records.
    """
    writer = RequestLogWriter(str(tmp_path), "00000", sync_seconds=1000)
    writer.append(record(0))
    begun, go_on, synced = threading.Event(), threading.Event(), []
    fsync = os.fsync

    def slow(fd: int) -> None:
        begun.set()
        assert go_on.wait(10)
        fsync(fd)
        synced.append("first")

    monkeypatch.setattr(os, "fsync", slow)
    first = threading.Thread(target=writer.sync)
    second = threading.Thread(target=lambda: (writer.sync(), synced.append("second")))
    first.start()
    assert begun.wait(10)
    second.start()
    second.join(0.1)
    go_on.set()
    first.join(10)
    second.join(10)
    assert synced == ["first", "second"]
    writer.close()


def test_object_store(tmp_path: Path) -> None:
    folder = f"memory://{tmp_path}"
    writer = RequestLogWriter(folder, "00000", sync_seconds=1000)
    writer.append(record(0))
    writer.sync()
    writer.append(record(1))
    writer.append(record(2))
    writer.close()
    found = index(folder)
    assert [found.read(f"k{i}") for i in range(3)] == [record(i) for i in range(3)]
    assert len(files.glob(folder, "*.jsonl")) == 2
    assert len(list(records(folder))) == 3
    files.remove(folder)


def test_no_log_yet(tmp_path: Path) -> None:
    assert request_log.index(str(tmp_path / "none")) == ({}, 0)
