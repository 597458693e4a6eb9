"""Where a run may be, and what happens when no cluster answers."""

import socket

import pytest
import ray

from pipeline import cluster
from pipeline.errors import SelfloopError
from pipeline.places import PROJECT

UPLOADED = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1"


@pytest.mark.parametrize("run", [f"{UPLOADED}/data/runs/x", f"{UPLOADED}/../_ray_pkg_1/x"])
def test_a_run_in_the_uploaded_folder_is_refused(run: str) -> None:
    with pytest.raises(SelfloopError, match="removed with the job"):
        cluster.check_run_path(run)


def test_a_relative_run_in_the_uploaded_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: UPLOADED)
    with pytest.raises(SelfloopError, match="Give an absolute path"):
        cluster.check_run_path("data/runs/x")


@pytest.mark.parametrize("run", ["", " "])
def test_a_run_without_a_name_is_refused(run: str) -> None:
    with pytest.raises(SelfloopError, match="--run is empty"):
        cluster.check_run_path(run)


@pytest.mark.parametrize("run", ["/data/runs/x", "runs/x", "s3://bucket/run"])
def test_others_are_not(run: str) -> None:
    cluster.check_run_path(run)


def test_submit_line() -> None:
    line = cluster.submit_line(["/somewhere/jobs/generate.py", "--run", "/shared/run", "--round", "1"])
    assert (
        line
        == f"ray job submit --working-dir {PROJECT} -- python -m jobs.generate --run /shared/run --round 1"
    )


@pytest.mark.parametrize(
    "address",
    [
        "http://head:8265",
        "https://head",
        "head",
        "head:",
        ":6379",
        "head:port",
        "head:0",
        "ray://head",
        "10.0.0.1:99999",
    ],
)
def test_what_is_no_address_is_refused_before_ray_looks_for_it(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with pytest.raises(SelfloopError, match=rf"--address '?{address}.*host:port"):
        cluster.connect(address)


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_closed_port_and_an_unknown_host_are_errors_at_once(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for address, why in ((f"127.0.0.1:{port}", "refused"), (f"no-such-host.invalid:{port}", "")):
        with pytest.raises(SelfloopError, match=rf"cannot connect to Ray at {prefix}{address}: .*{why}"):
            cluster.connect(f"{prefix}{address}")


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_dead_address_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, but does not speak gRPC
        address = f"{prefix}127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SelfloopError, match=rf"cannot connect to Ray at {address}: no answer"):
            cluster.connect(address)


def test_a_local_ray_that_does_not_come_up_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a plain Exception of many lines; what had started is ended."""
    ended: list[bool] = []

    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nmore\nlines")

    monkeypatch.setattr(ray, "init", late)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SelfloopError, match=r"did not start .*timed out during startup\.\nMost often.*again"):
        cluster.connect()
    assert ended
