"""A full disk, or a full /dev/shm, in one line for people."""

import errno
import os
import shutil
from collections.abc import Iterator

_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_SIGNS = ("no space left", "quota exceeded", "os error 28", "read-only file system")
_TORN = ("failed writing file", "unexpected pos")  # torch.save does not say why
_RAY = ("ObjectStoreFullError", "OutOfDiskError")
_LEAST = 1 << 20  # bytes free below which a write that failed without a reason failed for lack of space


def full_disk(error: BaseException, path: str, needed: str = "") -> str | None:
    """Return what to tell people if an error is due to a full disk, None if it is not.

    `path` is what was being written, if the error names no file; `needed` says how much space it takes.
    """
    chain = list(_chain(error))
    for e in chain:
        if type(e).__name__ in _RAY:
            path = "/dev/shm" if type(e).__name__ == _RAY[0] else path
            break
        text = str(e).lower()
        if (isinstance(e, OSError) and e.errno in _ERRNOS) or any(sign in text for sign in _SIGNS):
            path = str(getattr(e, "filename", None) or path)
            break
    else:
        torn = any(sign in str(e).lower() for e in chain for sign in _TORN)
        if not torn or _free(path) > _LEAST:
            return None
    free = _free(path)
    space = f"{free / 2**20:,.0f} MiB are free" if free >= 0 else "no space left"
    needs = f", {needed} needed" if needed else ""
    hint = "use a larger one (in Docker: --shm-size=2g)" if path.startswith("/dev/shm") else "make room"
    return (
        f"{path} cannot be written: its disk is full or read-only ({space}{needs}). Nothing finished is "
        f"lost: {hint}, then start the same command again."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _free(path: str) -> int:
    """Return the free bytes of the disk below `path`, which may not exist; -1 if that is unknown."""
    path = os.path.abspath(path) if "://" not in path else ""
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return -1
