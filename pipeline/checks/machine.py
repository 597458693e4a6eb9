"""Cores, CPU features, memory, shared memory, and engine processes that nobody owns any more."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.checks.finding import Finding, ok, warning
from pipeline.engines.reaper import MARK

GIB = 2**30
SHM_ENOUGH = 2 * GIB
MEMORY_ENOUGH = 6 * GIB


def cores() -> Iterator[Finding]:
    """Say how many cores this process may use: by affinity, and by the container's quota."""
    usable, quota = len(os.sched_getaffinity(0)), cpu_quota()
    text = f"{usable} of {os.cpu_count()} cores usable"
    if quota is not None and quota < usable:
        yield warning(
            "cores",
            f"{text}, but the container may use only {quota:g} of them at a time",
            f"Set engine.cpu_cores: {max(1, int(quota))} in the recipe: more threads than that slow each other down.",
        )
    else:
        yield ok("cores", text)


def features() -> Iterator[Finding]:
    """Say whether the CPU computes in bf16 itself."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return
    flags = next(
        (
            set(line.split(":", 1)[1].split())
            for line in info.splitlines()
            if line.startswith(("flags", "Features"))
        ),
        set(),
    )
    fast = sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    if fast:
        yield ok("cpu", f"computes in bf16 ({', '.join(fast)})")
    elif flags & {"avx512f", "avx2"}:
        yield warning(
            "cpu",
            "no avx512_bf16 or amx_bf16: engines and trainings compute in fp32, which takes about twice as long",
            "Nothing is broken; use small models here.",
        )
    else:
        yield warning(
            "cpu",
            "neither AVX2 nor AVX-512: vLLM may not run on this CPU",
            "Use engine.kind: openai with an endpoint, or another machine.",
        )


def memory() -> Iterator[Finding]:
    """Check memory and shared memory."""
    found = psutil.virtual_memory()
    limit = memory_limit()
    total = min(found.total, limit or found.total)
    text = f"{found.available / GIB:.1f} GiB free of {total / GIB:.1f} GiB{' (container limit)' if limit and limit < found.total else ''}"
    if found.available < MEMORY_ENOUGH:
        yield warning(
            "memory",
            text,
            "The packaged model with vLLM takes about 4 GiB, and training about as much: end other programs, or set engine.cpu_kv_gib: 1.",
        )
    else:
        yield ok("memory", text)
    if os.path.isdir("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total
        if size < SHM_ENOUGH:
            advice = f"In Docker: --shm-size=2g or more; Ray wants up to {0.3 * total / GIB:.0f} GiB here, else its object store is on disk."
            yield warning("/dev/shm", f"{size / GIB:.2f} GiB", advice)
        else:
            yield ok("/dev/shm", f"{size / GIB:.1f} GiB")


def leftovers() -> Iterator[Finding]:
    """Look for engine processes whose owner is gone and whom no reaper watches any more."""
    owned, watched = _marked(), _watched()
    left = {
        pid: size
        for mark, processes in owned.items()
        if mark not in watched
        for pid, size in processes.items()
    }
    if left:
        pids = " ".join(map(str, sorted(left)))
        yield warning(
            "engines",
            f"{len(left)} vLLM processes without an owner hold {sum(left.values()) / GIB:.1f} GiB",
            f"End them: kill -9 {pids}",
        )
    elif owned:
        yield ok("engines", f"{sum(map(len, owned.values()))} vLLM processes, all owned by a running engine")
    else:
        yield ok("engines", "no vLLM processes are left over")


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many cores the container's quota allows, None when there is none (cgroup 2, then 1)."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
        return int(quota) / int((root / "cpu" / "cpu.cfs_period_us").read_text()) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the container's memory limit in bytes, None when there is none."""
    for path in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() and int(text) < 1 << 60 else None
    return None


def _marked() -> dict[str, dict[int, int]]:
    """Return mark -> {process id: bytes of memory} for the processes that carry an engine's mark, this one and its parents left out."""
    mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found: dict[str, dict[int, int]] = {}
    for process in psutil.process_iter(["pid", "status"]):
        if process.pid in mine or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            mark = process.environ().get(MARK)
            if mark:
                found.setdefault(mark, {})[process.pid] = process.memory_info().rss
        except (psutil.Error, OSError):
            continue
    return found


def _watched() -> set[str]:
    """Return the marks that a reaper watches: it lives for as long as the owner, and until the last process is gone."""
    lines = (p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"]))
    return {
        line[i + 1]
        for line in lines
        for i, word in enumerate(line[:-1])
        if word.endswith("pipeline/engines/reaper.py")
    }
