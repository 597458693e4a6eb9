"""Connects to Ray: the cluster this job was submitted to, one by address, or a local one for this process."""

import os
import shlex
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, SelfloopError
from pipeline.places import CHECKOUT, PROJECT

CONNECT_SECONDS = 10.0


def connect(address: str | None = None) -> None:
    """Connect to Ray at `address`, else RAY_ADDRESS, else start it here. Does nothing when already connected.

    Raises SelfloopError when no cluster answers.
    """
    set_environment()
    import ray  # takes half a second, and most jobs need no Ray

    if ray.is_initialized():
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    _connect(ray, address)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray sets a handler of its own


def set_environment() -> None:
    """Set what Ray and Ray Train read when they are imported or started, unless it is set already."""
    for name, value in (
        ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),  # actors without GPUs keep CUDA_VISIBLE_DEVICES as it is
        ("RAY_TRAIN_V2_ENABLED", "1"),
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)


def _connect(ray: Any, address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if is_local(address):
        # Workers import what the driver does: this package, and the user's modules beside the recipe.
        search = [
            *([str(PROJECT)] if CHECKOUT else []),
            os.getcwd(),
            *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(search))
        # If this process is killed, its Ray ends with it, but two helpers look for their head for 60 s.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "15")
        # Without "local", Ray joins the cluster that last ran on this machine, or waits for it.
        _start(ray)
        return
    check_address(address)
    try:
        _check_answers(address)
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise SelfloopError(
            f"cannot connect to Ray at {address}: {str(e).strip().splitlines()[0]}\n"
            "Is the cluster running (ray status)? Ray has token authentication on by default: set "
            "RAY_AUTH_MODE=token here (the token is in ~/.ray/auth_token on the head node)."
        ) from None


def _start(ray: Any) -> None:
    """Start Ray on this machine. Raises SelfloopError when it does not come up."""
    began = time.monotonic()
    try:
        ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    except Exception as e:  # Ray raises Exception itself for a node that is not there in time
        with suppress(Exception):
            ray.shutdown()  # it ends what had already started
        why = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise SelfloopError(
            f"Ray did not start on this machine ({time.monotonic() - began:.0f} s): {why}\n"
            "Most often the machine is busy, or has little memory or no room in /tmp and /dev/shm: "
            "`selfloop doctor` looks at all three, and Ray's own logs are in /tmp/ray/session_latest/logs. "
            "Nothing finished is lost: start the same command again."
        ) from None


def is_local(address: str | None) -> bool:
    """Tell whether Ray is to be started on this machine, for this process alone."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") == "local"


def check_address(address: str) -> None:
    """Raise ConfigError for what is no address of a cluster: Ray would look for it, for minutes."""
    scheme, _, rest = address.rpartition("://")
    if scheme in ("http", "https"):
        raise ConfigError(
            f"--address {address}: this is where jobs are submitted (`ray job submit --address {address} -- "
            "python -m jobs...`). Expected host:port of the head node (6379 by default), ray://host:port, or "
            "auto."
        )
    host, _, port = rest.rpartition(":")
    named = address in ("auto", "local") or (scheme and scheme != "ray")  # a provider's own addresses
    if not named and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(
            f"--address {address!r}: expected host:port of the head node (such as 10.0.0.1:6379), "
            "ray://host:port, auto, or local."
        )


def _check_answers(address: str) -> None:
    """Raise ConnectionError when nothing at host:port answers: `ray.init` would try for ten minutes."""
    target = address.removeprefix("ray://")
    host, _, port = target.rpartition(":")
    if "://" in target or not port.isdecimal():
        return  # "auto" and its like are resolved by Ray
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as e:
        raise ConnectionError(f"{e.strerror or e} (tried for up to {CONNECT_SECONDS:.0f} s).") from None
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return  # a plain channel would not get through
    import grpc  # with Ray, and as slow to import

    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            raise ConnectionError(
                f"no answer within {CONNECT_SECONDS:.0f} s. Expected host:port of a head node; Ray's default "
                "port is 6379 (8265 is its dashboard)."
            ) from None


def check_run_path(run: str) -> None:
    """Refuse an empty run path, and one inside the directory that `ray job submit` uploads."""
    if not run.strip():
        raise SelfloopError("--run is empty (an unset variable?): give the path of the run directory.")
    path = os.path.abspath(run) if "://" not in run else run
    if "/runtime_resources/working_dir_files/" in path:
        raise SelfloopError(
            f"--run {run} is inside the working directory that Ray uploaded for this job ({path}), which is "
            "removed with the job. Give an absolute path outside it, on a file system that all nodes share."
        )


def submit_line(argv: list[str] | None = None) -> str:
    """Return the command that runs this same job on a cluster."""
    argv = argv or sys.argv
    folder = shlex.quote(str(PROJECT)) if CHECKOUT else "."
    job = f"python -m jobs.{Path(argv[0]).stem} {shlex.join(argv[1:])}"
    return f"ray job submit --working-dir {folder} -- {job}"
