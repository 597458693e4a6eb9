"""Check cores, CPU features, memory, and orphaned engine processes."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

from pipeline.checks import Finding, ok, warning
from pipeline.engines.reaper import MARK

GIB = 2**30
SHM_ENOUGH = 2 * GIB
MEMORY_ENOUGH = 6 * GIB
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # features of a CPU that multiplies bf16 numbers


class Gpu(NamedTuple):
    """A GPU's name and its memory in bytes."""

    name: str
    memory: int


class Machine(NamedTuple):
    """This machine: usable cores, whether they multiply bf16, free memory in bytes, GPUs."""

    cores: int
    bf16: bool
    memory: int
    gpus: tuple[Gpu, ...] = ()

    @classmethod
    def here(cls) -> "Machine":
        """Look at this machine, without loading CUDA."""
        usable, free = len(os.sched_getaffinity(0)), psutil.virtual_memory().available
        limit = memory_limit()
        memory = free if limit is None else min(free, limit)
        return cls(max(1, int(min(usable, cpu_quota() or usable))), bool(_BF16 & _flags()), memory, gpus())


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, as nvidia-smi lists them; none where it fails."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        found = [line.rsplit(",", 1) for line in out.splitlines() if "," in line]
        listed = tuple(Gpu(name.strip(), int(mib) * 2**20) for name, mib in found)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        listed
        if visible is None
        else listed[: len([v for v in visible.split(",") if v.strip() not in ("", "-1")])]
    )


def cores() -> Iterator[Finding]:
    """Compare the cores this process may use with the container's CPU quota."""
    usable, quota = len(os.sched_getaffinity(0)), cpu_quota()
    text = f"{usable} of {os.cpu_count()} cores usable"
    if quota is not None and quota < usable:
        text += f", but the container's quota is {quota:g}"
        fix = f"Set engine.cpu_cores: {max(1, int(quota))} in the recipe; more threads slow each other down."
        yield warning("cores", text, fix)
    else:
        yield ok("cores", text)


def features() -> Iterator[Finding]:
    """Check that the CPU computes in bf16 natively."""
    if not (flags := _flags()):
        return
    if fast := sorted(flags & _BF16):
        yield ok("cpu", f"native bf16 ({', '.join(fast)})")
    elif flags & {"avx512f", "avx2"}:
        text = "no avx512_bf16 or amx_bf16: engines and training compute in fp32, at about half the speed"
        yield warning("cpu", text, "Everything works; use small models here.")
    else:
        fix = "Use engine.kind: openai with an endpoint, or another machine."
        yield warning("cpu", "neither AVX2 nor AVX-512: vLLM may not run on this CPU", fix)


def memory() -> Iterator[Finding]:
    """Check free memory and the size of /dev/shm."""
    ram, limit = psutil.virtual_memory(), memory_limit()
    total = min(ram.total, limit or ram.total)
    container = " (container limit)" if total < ram.total else ""
    text = f"{ram.available / GIB:.1f} GiB free of {total / GIB:.1f} GiB{container}"
    if ram.available < MEMORY_ENOUGH:
        fix = (
            "The packaged model takes about 4 GiB in vLLM and about as much in training: "
            "stop other programs, or set engine.cpu_kv_gib: 1."
        )
        yield warning("memory", text, fix)
    else:
        yield ok("memory", text)
    if os.path.isdir("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total
        if size < SHM_ENOUGH:
            fix = (
                f"In Docker: --shm-size=2g or more. Ray wants up to {0.3 * total / GIB:.0f} GiB here; "
                "otherwise its object store is on disk."
            )
            yield warning("/dev/shm", f"{size / GIB:.2f} GiB", fix)
        else:
            yield ok("/dev/shm", f"{size / GIB:.1f} GiB")


def leftovers() -> Iterator[Finding]:
    """Look for engine processes whose owner is gone and that no reaper watches."""
    marked, watched = _marked(), _watched()
    orphans = {
        pid: size for mark, sizes in marked.items() if mark not in watched for pid, size in sizes.items()
    }
    if orphans:
        text = f"{len(orphans)} orphaned vLLM processes hold {sum(orphans.values()) / GIB:.1f} GiB"
        yield warning("engines", text, f"Kill them: kill -9 {' '.join(map(str, sorted(orphans)))}")
    elif marked:
        yield ok("engines", f"{sum(map(len, marked.values()))} vLLM processes, all owned by a running engine")
    else:
        yield ok("engines", "no orphaned vLLM processes")


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the container's CPU quota in cores, or None without one (cgroup v2, then v1)."""
    v1 = (root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us")
    for paths in ((root / "cpu.max",), v1):
        try:
            quota, period = " ".join(path.read_text() for path in paths).split()
            return int(quota) / int(period) if quota not in ("max", "-1", "0") else None
        except (OSError, ValueError):
            continue
    return None


def memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the container's memory limit in bytes, or None without one (cgroup v2, then v1)."""
    for path in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() and int(text) < 1 << 60 else None
    return None


def _flags() -> set[str]:
    """Return the CPU's features; none where /proc does not tell."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    line = re.search(r"^(?:flags|Features)[^:]*:(.*)", info, re.MULTILINE)
    return set(line[1].split()) if line else set()


def _marked() -> dict[str, dict[int, int]]:
    """Return {mark: {pid: resident bytes}} of marked processes, except this one and its parents."""
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    marked: dict[str, dict[int, int]] = {}
    for process in psutil.process_iter(["pid", "status"]):
        if process.pid in own or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            if mark := process.environ().get(MARK):
                marked.setdefault(mark, {})[process.pid] = process.memory_info().rss
        except (psutil.Error, OSError):
            continue
    return marked


def _watched() -> set[str]:
    """Return the marks with a live reaper; it lives until its owner and the last marked process are gone."""
    lines = (p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"]))
    pairs = (pair for line in lines for pair in pairwise(line))
    return {mark for script, mark in pairs if script.endswith("pipeline/engines/reaper.py")}
