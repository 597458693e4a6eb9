"""Can Ray be started here, or the cluster be reached? Tried in a process of its own, so that a Ray that hangs does not hang the doctor."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.checks.finding import Finding, ok, problem, warning
from pipeline.checks.software import PROJECT

SECONDS = 120.0
_HINT = (
    "Is it running (ray status)? Ray has token authentication on by default: set RAY_AUTH_MODE=token here, "
    "and have the cluster's token in ~/.ray/auth_token (or name its file in RAY_AUTH_TOKEN_PATH)."
)


def ray(address: str | None, quick: bool) -> Iterator[Finding]:
    """Check the cluster at `address`, else at RAY_ADDRESS, else that a local Ray starts (not with `quick`)."""
    address = address or os.environ.get("RAY_ADDRESS")
    if not address and quick:
        yield ok("ray", "not tried (--quick)")
        return
    began = time.monotonic()
    found = _probe(address)
    took = f"{time.monotonic() - began:.0f} s"
    if "error" in found and address:
        yield problem(
            "ray",
            found["error"]
            if address in found["error"]
            else f"the cluster at {address} cannot be used: {found['error']}",
            _HINT,
        )
    elif "error" in found:
        yield problem(
            "ray",
            f"does not start here: {found['error']}",
            "See the logs in /tmp/ray/session_latest/logs; is the disk full, or a port taken?",
        )
    else:
        where = f"cluster at {address}" if address else "a local Ray starts"
        resources = ", ".join(f"{found['resources'].get(k, 0):g} {k}" for k in ("CPU", "GPU"))
        yield ok(
            "ray",
            f"{where}: {found['nodes']} {'node' if found['nodes'] == 1 else 'nodes'}, {resources} ({took})",
        )
        if address and found["free"].get("CPU", 0) < 1 and found["free"].get("GPU", 0) < 1:
            yield warning(
                "ray",
                "all of its CPUs and GPUs are taken",
                "Engines will wait until something ends: ray status",
            )
    yield from authentication(address)


def authentication(address: str | None) -> Iterator[Finding]:
    """Say how Ray's token authentication stands. The token itself is never read."""
    mode = os.environ.get("RAY_AUTH_MODE")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    given = path.exists() or bool(os.environ.get("RAY_AUTH_TOKEN"))
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield warning("ray token", f"{path} can be read by other users", f"chmod 600 {path}")
    if mode == "disabled":
        yield warning(
            "ray token",
            "RAY_AUTH_MODE=disabled: whoever reaches the cluster's ports can run code on it",
            "Unset it, but for a network of your own.",
        )
    elif not given and address:
        yield warning(
            "ray token",
            f"no token here ({path} is missing)",
            "Copy it from the cluster's head node; `ray job submit` is refused without it.",
        )
    elif given and mode != "token":
        yield ok(
            "ray token",
            f"found; before `ray job submit`, export RAY_AUTH_MODE=token (it is {mode or 'not set'} now), or the cluster refuses the job",
        )
    elif given:
        yield ok("ray token", "found, and RAY_AUTH_MODE=token is set")
    else:
        yield ok(
            "ray token",
            "none yet: `ray start --head` makes one; then `RAY_AUTH_MODE=token ray job submit ...`",
        )


def _probe(address: str | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipeline.checks.ray_cluster", *([address] if address else [])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    with (
        tempfile.TemporaryFile() as out
    ):  # not a pipe: Ray's own processes hold it open, and its end would never come
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            _end(process)
            return {"error": f"no answer within {SECONDS:.0f} s"}
        out.seek(0)
        for line in reversed(out.read().splitlines()):
            if line.startswith(b"{"):
                return json.loads(line)
    return {"error": f"the process that tried it ended with status {process.returncode}"}


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answer() -> int:
    return os.getpid()


def _try(address: str | None) -> dict[str, Any]:
    """Connect, run one task, and return what the cluster has."""
    import ray as library

    from pipeline import cluster
    from pipeline.errors import SelfloopError

    try:
        cluster.connect(address)
        library.get(library.remote(num_cpus=0)(_answer).remote(), timeout=SECONDS / 2)
        nodes = sum(node["Alive"] for node in library.nodes())
        return {
            "nodes": nodes,
            "resources": library.cluster_resources(),
            "free": library.available_resources(),
        }
    except SelfloopError as e:
        return {"error": str(e).splitlines()[0]}
    except Exception as e:  # whatever Ray raises is what the doctor is asked to find
        return {"error": f"{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}"}
    finally:
        library.shutdown()


if __name__ == "__main__":
    print(json.dumps(_try(sys.argv[1] if len(sys.argv) > 1 else None)), flush=True)
