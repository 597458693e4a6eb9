"""Check that Ray starts here or that the cluster answers, in a process of its own because Ray may hang."""

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

from pipeline.checks import Finding, ok, problem, warning
from pipeline.places import PROJECT

SECONDS = 120.0
_CLUSTER_HINT = (
    "Is it running (ray status)? Ray has token authentication on by default: run "
    "`ray get-auth-token --generate` on the head before `ray start --head`, copy its ~/.ray/auth_token here "
    "(or name the file in RAY_AUTH_TOKEN_PATH), and set RAY_AUTH_MODE=token."
)
_LOCAL_HINT = "See the logs in /tmp/ray/session_latest/logs. Is the disk full, or a port taken?"


def ray(address: str | None, quick: bool) -> Iterator[Finding]:
    """Check the cluster at `address` or RAY_ADDRESS, or else (unless `quick`) that a local Ray starts."""
    address = address or os.environ.get("RAY_ADDRESS")
    if not address and quick:
        yield ok("ray", "not tried (--quick)")
        return
    began = time.monotonic()
    reply = _probe(address)
    if error := reply.get("error"):
        if not address:
            error = f"does not start here: {error}"
        elif address not in error:
            error = f"cannot use the cluster at {address}: {error}"
        yield problem("ray", error, _CLUSTER_HINT if address else _LOCAL_HINT)
    else:
        where = f"cluster at {address}" if address else "a local Ray starts"
        nodes = f"{reply['nodes']} node{'s' if reply['nodes'] != 1 else ''}"
        cpus, gpus = (reply["resources"].get(kind, 0) for kind in ("CPU", "GPU"))
        yield ok("ray", f"{where}: {nodes}, {cpus:g} CPU, {gpus:g} GPU ({time.monotonic() - began:.0f} s)")
        if address and max(reply["free"].get(kind, 0) for kind in ("CPU", "GPU")) < 1:
            yield warning("ray", "all its CPUs and GPUs are taken", "Engines will wait for some: ray status")
    yield from authentication(address)


def authentication(address: str | None) -> Iterator[Finding]:
    """Check Ray's token authentication. The token itself is never read."""
    name, mode = "ray token", os.environ.get("RAY_AUTH_MODE")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    present = path.exists() or bool(os.environ.get("RAY_AUTH_TOKEN"))
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield warning(name, f"{path} can be read by other users", f"chmod 600 {path}")
    if mode == "disabled":
        text = "RAY_AUTH_MODE=disabled: anyone who reaches the cluster's ports can run code on it"
        yield warning(name, text, "Unset it, except on a private network.")
    elif present and mode == "token":
        yield ok(name, "present, and RAY_AUTH_MODE=token is set")
    elif present:
        now = f"RAY_AUTH_MODE is {mode or 'not set'}"
        yield ok(name, f"present; {now}: export RAY_AUTH_MODE=token, or `ray job submit` is refused")
    elif address:
        fix = "Copy it from the cluster's head node; without it `ray job submit` is refused."
        yield warning(name, f"no token here ({path} is missing)", fix)
    else:
        text = "none yet; a cluster needs one: `ray get-auth-token --generate` before `ray start --head`"
        yield ok(name, text)


def _probe(address: str | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipeline.checks.ray_cluster", *([address] if address else [])]
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    # Not a pipe: Ray's own processes hold it open, so it would never reach its end.
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
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
    return {"error": f"the probe exited with status {process.returncode}"}


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _try(address: str | None) -> dict[str, Any]:
    """Connect, run one task, and return the cluster's nodes and resources, or {"error": ...}."""
    import ray as library

    from pipeline import cluster
    from pipeline.errors import SelfloopError

    try:
        cluster.connect(address)
        library.get(library.remote(num_cpus=0)(lambda: None).remote(), timeout=SECONDS / 2)
        nodes = sum(node["Alive"] for node in library.nodes())
        resources, free = library.cluster_resources(), library.available_resources()
        return {"nodes": nodes, "resources": resources, "free": free}
    except SelfloopError as e:
        return {"error": str(e).splitlines()[0]}
    except Exception as e:  # Ray raises anything
        return {"error": f"{type(e).__name__}: {(str(e).strip().splitlines() or [''])[0]}"}
    finally:
        library.shutdown()


if __name__ == "__main__":
    print(json.dumps(_try(sys.argv[1] if len(sys.argv) > 1 else None)), flush=True)
