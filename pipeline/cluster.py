"""Getting at a Ray cluster: the one a job was submitted to, one by address, or a local one that ends with this process."""

import os
import shlex
import sys
from pathlib import Path

import ray

from pipeline.errors import SelfloopError
from pipeline.places import PROJECT


def connect(address: str | None = None) -> None:
    """Connect to Ray at `address`, else RAY_ADDRESS, else start it here. Does nothing when already connected."""
    if ray.is_initialized():
        return
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # actors without GPUs keep CUDA_VISIBLE_DEVICES as it is
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if not address:
        # Workers find this package, and the user's own modules beside the recipe, where the driver does.
        os.environ["PYTHONPATH"] = os.pathsep.join(
            dict.fromkeys(
                [str(PROJECT), os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
            )
        )
        # When this process is killed, its Ray dies with it, but for two helpers that would look for their head for a minute.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "15")
        # Without "local" Ray would join whatever cluster last ran on this machine, and wait for it when it is gone.
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise SelfloopError(
            f"cannot connect to Ray at {address}: {str(e).strip().splitlines()[0]}\n"
            "Is the cluster running (ray status)? Ray has token authentication on by default: set RAY_AUTH_MODE=token here (the token is in ~/.ray/auth_token on the head node)."
        ) from None


def check_run_path(run: str) -> None:
    """Refuse a run inside the working directory that `ray job submit` uploaded, which is deleted with the job, and one without a name."""
    if not run.strip():
        raise SelfloopError(
            "--run is empty (a variable that is not set?): give the path of the run directory."
        )
    path = os.path.abspath(run) if "://" not in run else run
    if "/runtime_resources/working_dir_files/" in path:
        raise SelfloopError(
            f"--run {run} is inside the working directory that Ray uploaded for this job ({path}). It is removed with the job, and all that was made "
            "with it. Give an absolute path outside it, on a file system that all nodes share."
        )


def submit_line(argv: list[str] | None = None) -> str:
    """Return the command that runs this same job on a cluster."""
    argv = argv or sys.argv
    module = f"jobs.{Path(argv[0]).stem}"
    return f"ray job submit --working-dir {shlex.quote(str(PROJECT))} -- python -m {module} {shlex.join(argv[1:])}"
