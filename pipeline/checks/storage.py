"""Can the run directory carry a run? Renames, syncs, exclusive creation and locks are tried in a folder that is removed again."""

import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.checks.finding import Finding, ok, problem, warning
from pipeline.store import files

GIB = 2**30
_SHARED = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "ceph",
    "gpfs",
    "beegfs",
    "glusterfs",
    "9p",
    "virtiofs",
    "fuse",
    "afs",
    "ocfs2",
    "gfs2",
    "wekafs",
    "panfs",
)
_RENAMES = 200
_ENOUGH, _LITTLE = 10 * GIB, GIB


def run_directory(run: str) -> Iterator[Finding]:
    """Check the file system that `run` is, or would be, on."""
    if not files.is_local(run):
        yield from _object_store(run)
        return
    path = Path(files.filesystem(run)[1])
    folder = _existing(path)
    kind = filesystem_kind(folder)
    if kind.startswith(_SHARED):
        yield ok("run directory", f"{path} is on {kind}, which other machines can share")
    elif kind in ("tmpfs", "ramfs"):
        yield warning(
            "run directory",
            f"{path} is in memory ({kind}): gone when the machine stops",
            "Give a --run directory on a disk.",
        )
    elif kind == "overlay":
        yield warning(
            "run directory",
            f"{path} is in the container's own layer: gone with the container",
            "Mount a volume and give a --run directory on it.",
        )
    else:
        yield ok(
            "run directory",
            f"{path} is on a local file system ({kind}); a cluster of several machines needs a shared one",
        )
    if not os.access(folder, os.W_OK):
        yield problem(
            "run directory",
            f"{folder} cannot be written by this user",
            "Give another --run directory, or change its owner.",
        )
        return
    aside = folder / f".selfloop-doctor-{uuid.uuid4().hex[:8]}"
    try:
        aside.mkdir()
        yield from _try(aside)
    except OSError as e:
        yield problem(
            "run directory", f"{folder}: {e}", "Give a --run directory on a file system that works."
        )
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def free_space(run: str | None) -> Iterator[Finding]:
    """Check the free space where a run, Ray and the Hub's cache write."""
    cache = Path(
        os.environ.get("HF_HOME")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    )
    places = {
        "temporary folder": Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()),
        "Hugging Face cache": cache,
    }
    if run is not None and files.is_local(run):
        places = {"run directory": Path(files.filesystem(run)[1]), **places}
    for name, path in places.items():
        usage = shutil.disk_usage(_existing(path))
        text = f"{usage.free / GIB:.1f} GiB free for the {name} ({path})"
        if usage.free < _LITTLE:
            yield problem("disk", text, "Make room, or put it elsewhere (--run, RAY_TMPDIR, HF_HOME).")
        elif usage.free < _ENOUGH or (name == "temporary folder" and usage.free < 0.05 * usage.total):
            yield warning(
                "disk",
                text,
                "A run keeps every round's model and data; Ray refuses to store objects on a disk that is 95% full.",
            )
        else:
            yield ok("disk", text)


def filesystem_kind(folder: Path, mounts: str = "/proc/mounts") -> str:
    """Return the type of the file system that a folder is on, "unknown" where that is not told."""
    try:
        lines = [line.split() for line in Path(mounts).read_text().splitlines()]
    except OSError:
        return "unknown"
    real = folder.resolve()
    points = [(Path(f[1].replace("\\040", " ")), f[2]) for f in lines if len(f) > 2]
    over = [
        (len(point.parts), i, kind) for i, (point, kind) in enumerate(points) if real.is_relative_to(point)
    ]
    return max(over)[2] if over else "unknown"


def _try(folder: Path) -> Iterator[Finding]:
    failed: list[tuple[str, str]] = []
    for name, test, consequence in (
        ("rename", _rename_is_atomic, "a killed run could leave half a file that looks whole"),
        ("fsync", _syncs, "what is done could be lost when the machine stops"),
        ("exclusive creation", _creates_exclusively, "two workers could write to one file"),
        ("flock", _locks, "two drivers could write to one run"),
    ):
        try:
            if not test(folder):
                failed.append((name, consequence))
        except OSError as e:
            failed.append((name, f"{e}; {consequence}"))
    if not failed:
        yield ok("run directory", "renames are atomic, syncs work, files are created exclusively, locks hold")
    for name, consequence in failed:
        yield problem(
            "run directory",
            f"{name} does not work here: {consequence}",
            "Give a --run directory on another file system (for NFS: version 4 with locking).",
        )


def _rename_is_atomic(folder: Path) -> bool:
    """Replace a file again and again while another thread reads it: it must be there, and whole, at every moment."""
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
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    os.close(os.open(folder / "exclusive", flags, 0o644))
    try:
        os.close(os.open(folder / "exclusive", flags, 0o644))
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
        found = files.read_bytes(path) == b"x"
        files.remove(path)
    except Exception as e:  # every store has errors of its own: credentials, bucket, network
        yield problem(
            "run directory",
            f"{run} cannot be written: {type(e).__name__}: {e}",
            "Check the address, the credentials and the network.",
        )
        return
    if found:
        yield warning(
            "run directory",
            f"{run} is an object store, which has no locks",
            "See to it that no two drivers work on this run.",
        )
    else:
        yield problem(
            "run directory", f"{run} did not give back what was written to it", "Give another --run."
        )


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.is_dir())
