"""Check that the file system can hold a run: space, atomic renames, syncs, exclusive creation, locks.

The operations are tried in a folder that is removed again.
"""

import fcntl
import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.checks import Finding, ok, problem, warning
from pipeline.store import files

GIB = 2**30
_SHARED = re.compile(
    "nfs|cifs|smb|lustre|ceph|gpfs|beegfs|glusterfs|9p|virtiofs|fuse|afs|ocfs2|gfs2|wekafs|panfs"
)
_RENAMES = 200
_ENOUGH, _LITTLE = 10 * GIB, GIB
_RUN = "run directory"


def run_directory(run: str) -> Iterator[Finding]:
    """Check the file system that holds `run`, or would hold it."""
    if not files.is_local(run):
        yield from _object_store(run)
        return
    path = Path(files.filesystem(run)[1])
    folder = _existing(path)
    yield _kind(path, filesystem_kind(folder))
    if not os.access(folder, os.W_OK):
        yield problem(
            _RUN, f"{folder} is not writable", "Choose another --run directory or change its owner."
        )
        return
    scratch = folder / f".selfloop-doctor-{uuid.uuid4().hex[:8]}"
    try:
        scratch.mkdir()
        yield from _try(scratch)
    except OSError as e:
        yield problem(_RUN, f"{folder}: {e}", "Choose a --run directory on a working file system.")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def free_space(run: str | None) -> Iterator[Finding]:
    """Check the free space where a run, Ray and the Hub cache write."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    places = {
        "temporary folder": Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()),
        "Hugging Face cache": Path(os.environ.get("HF_HOME") or cache),
    }
    if run is not None and files.is_local(run):
        places = {_RUN: Path(files.filesystem(run)[1]), **places}
    for name, path in places.items():
        usage = shutil.disk_usage(_existing(path))
        text = f"{usage.free / GIB:.1f} GiB free for the {name} ({path})"
        if usage.free < _LITTLE:
            yield problem("disk", text, "Make room, or move it (--run, RAY_TMPDIR, HF_HOME).")
        elif usage.free < _ENOUGH or (name == "temporary folder" and usage.free < 0.05 * usage.total):
            fix = (
                "A run keeps every round's model and data; Ray stores no objects on a disk that is 95% full."
            )
            yield warning("disk", text, fix)
        else:
            yield ok("disk", text)


def filesystem_kind(folder: Path, mounts: str = "/proc/mounts") -> str:
    """Return the type of the file system that holds a folder, or "unknown"."""
    try:
        lines = [line.split() for line in Path(mounts).read_text().splitlines()]
    except OSError:
        return "unknown"
    real = folder.resolve()
    points = [(Path(f[1].replace("\\040", " ")), f[2]) for f in lines if len(f) > 2]
    # The deepest mount point wins, and of those the latest.
    above = [(len(at.parts), i, kind) for i, (at, kind) in enumerate(points) if real.is_relative_to(at)]
    return max(above)[2] if above else "unknown"


def _kind(path: Path, kind: str) -> Finding:
    if _SHARED.match(kind):
        return ok(_RUN, f"{path} is on {kind}, which other machines can share")
    if kind in ("tmpfs", "ramfs"):
        text = f"{path} is in memory ({kind}) and lost when the machine stops"
        return warning(_RUN, text, "Choose a --run directory on a disk.")
    if kind == "overlay":
        text = f"{path} is in the container's own layer and lost with the container"
        return warning(_RUN, text, "Mount a volume and put the --run directory on it.")
    return ok(_RUN, f"{path} is on a local file system ({kind}); a multi-machine cluster needs a shared one")


def _try(folder: Path) -> Iterator[Finding]:
    healthy = True
    for name, test, consequence in (
        ("rename", _rename_is_atomic, "a killed run could leave half a file that looks whole"),
        ("fsync", _syncs, "finished work could be lost when the machine stops"),
        ("exclusive creation", _creates_exclusively, "two workers could write to one file"),
        ("flock", _locks, "two drivers could write to one run"),
    ):
        try:
            if test(folder):
                continue
        except OSError as e:
            consequence = f"{e}; {consequence}"
        healthy = False
        fix = "Choose a --run directory on another file system (NFS: version 4, with locking)."
        yield problem(_RUN, f"{name} does not work here: {consequence}", fix)
    if healthy:
        yield ok(_RUN, "renames are atomic, syncs work, files are created exclusively, locks hold")


def _rename_is_atomic(folder: Path) -> bool:
    """Replace a file repeatedly while another thread reads it; the reader must always see a whole file."""
    target, whole = folder / "target", [True]
    target.write_bytes(b"x" * 4096)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                whole[0] = whole[0] and len(target.read_bytes()) == 4096
            except OSError:
                whole[0] = False

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for i in range(_RENAMES):
            aside = folder / f"aside-{i}"
            aside.write_bytes(b"y" * 4096)
            os.replace(aside, target)
    finally:
        stop.set()
        reader.join()
    return whole[0]


def _syncs(folder: Path) -> bool:
    with open(folder / "synced", "wb") as f:
        f.write(b"x")
        f.flush()
        os.fsync(f.fileno())
    files.sync_folder(str(folder))
    return True


def _creates_exclusively(folder: Path) -> bool:
    open(folder / "exclusive", "xb").close()
    try:
        open(folder / "exclusive", "xb").close()
    except FileExistsError:
        return True
    return False


def _locks(folder: Path) -> bool:
    with open(folder / "lock", "w") as first, open(folder / "lock", "w") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _object_store(run: str) -> Iterator[Finding]:
    path = files.join(run, f".selfloop-doctor-{uuid.uuid4().hex[:8]}")
    try:
        files.write_bytes(path, b"x")
        read_back = files.read_bytes(path) == b"x"
        files.remove(path)
    except Exception as e:  # every store has errors of its own: credentials, bucket, network
        fix = "Check the address, the credentials and the network."
        yield problem(_RUN, f"{run} cannot be written: {type(e).__name__}: {e}", fix)
        return
    if read_back:
        fix = "Make sure that only one driver works on this run."
        yield warning(_RUN, f"{run} is an object store, which has no locks", fix)
    else:
        yield problem(_RUN, f"{run} does not return what was written to it", "Choose another --run.")


def _existing(path: Path) -> Path:
    """Return the path, or its nearest existing parent folder."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.is_dir())
