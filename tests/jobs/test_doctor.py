"""doctor: one line for each check, advice where something is wrong, nothing left behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.checks import machine, ray_cluster, software, storage


def states(findings):
    return [(f.name, f.state) for f in findings]


def test_doctor_in_words_and_as_json(selfloop, tmp_path: Path):
    shown = selfloop("doctor", "--quick", "--run", tmp_path / "not" / "there")
    assert shown.status in (0, 1)
    assert "renames are atomic, syncs work, files are created exclusively, locks hold" in shown.text
    assert list(tmp_path.iterdir()) == []
    facts = json.loads(selfloop("doctor", "--quick", "--json").text)
    assert {f["name"] for f in facts["findings"]} >= {
        "python",
        "torch",
        "packaged model",
        "cores",
        "memory",
        "engines",
        "disk",
        "ray",
    }
    assert facts["problems"] == sum(f["state"] == "problem" for f in facts["findings"])
    assert all(f["advice"] for f in facts["findings"] if f["state"] != "ok")


def test_a_problem_makes_the_exit_status_1(selfloop, monkeypatch):
    monkeypatch.setattr(storage, "_LITTLE", 1 << 62)
    found = selfloop("doctor", "--quick")
    assert found.status == 1 and "PROBLEM disk" in found.text and "Make room" in found.text


def test_lock_file(tmp_path: Path):
    import rich  # noqa: F401

    lock = tmp_path / "requirements.lock"
    assert ("lock file", "warning") in states(software.packages(lock))
    from importlib.metadata import version

    lock.write_text(
        f"# made by a tool\n--no-deps\nrich=={version('rich')} ; python_version > '3'\n"
        f"typer[all]=={version('typer')} \\\n    --hash=sha256:00\n"
    )
    assert software.read_lock(lock) == {"rich": version("rich"), "typer": version("typer")}
    assert ("lock file", "ok") in states(software.packages(lock))
    lock.write_text("rich==0.0.1\nnot-a-package==1\n")
    [finding] = [f for f in software.packages(lock) if f.name == "lock file"]
    assert (
        finding.state == "warning"
        and "(lock file: 0.0.1)" in finding.text
        and "not-a-package missing" in finding.text
    )


def test_packaged_model(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("SELFLOOP_MODELS", str(tmp_path))
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: None)
    assert states(software.packaged_model()) == [("packaged model", "warning")]


@pytest.mark.parametrize(("text", "cores"), [("max 100000", None), ("150000 100000", 1.5)])
def test_cpu_quota(tmp_path: Path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert machine.cpu_quota(tmp_path) == cores


def test_cgroup_1_and_none(tmp_path: Path):
    assert machine.cpu_quota(tmp_path) is None and machine.memory_limit(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    (tmp_path / "memory.max").write_text("1073741824\n")
    assert machine.cpu_quota(tmp_path) == 2 and machine.memory_limit(tmp_path) == 1 << 30


def test_leftover_engines_are_found():
    mark = "0123456789abcdef-test"
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    process = subprocess.Popen(command, env={**os.environ, machine.MARK: mark}, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        [finding] = machine.leftovers()
        assert finding.state == "warning" and str(process.pid) in finding.advice.split()
    finally:
        process.kill()
        process.communicate()


def test_a_watched_engine_is_not_left_over():
    mark = "fedcba9876543210-test"
    owner = "import sys, time; print('up', flush=True); time.sleep(60)"
    engine = subprocess.Popen(
        [sys.executable, "-c", owner], env={**os.environ, machine.MARK: mark}, stdout=subprocess.PIPE
    )
    reaper = subprocess.Popen(
        [sys.executable, "-c", owner, "/x/pipeline/engines/reaper.py", mark], stdout=subprocess.PIPE
    )
    try:
        engine.stdout.readline(), reaper.stdout.readline()
        assert not any(str(engine.pid) in f.advice.split() for f in machine.leftovers())
    finally:
        for process in (engine, reaper):
            process.kill()
            process.communicate()


def test_file_systems(tmp_path: Path):
    mounts = tmp_path / "mounts"
    mounts.write_text("root / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\ntmp /data/fast tmpfs rw 0 0\n")
    kinds = {
        p: storage.filesystem_kind(Path(p), str(mounts))
        for p in ("/home", "/data/run", "/data/fast/run", "/data2")
    }
    assert kinds == {"/home": "ext4", "/data/run": "nfs4", "/data/fast/run": "tmpfs", "/data2": "ext4"}


def test_a_file_system_without_what_a_run_needs(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        storage.fcntl, "flock", lambda *_: None
    )  # a lock that locks nobody out, as on some network mounts
    found = [f for f in storage.run_directory(str(tmp_path)) if f.state == "problem"]
    assert len(found) == 1 and "flock does not work here" in found[0].text
    assert list(tmp_path.iterdir()) == []


def test_object_stores_are_tried():
    [finding] = storage.run_directory("memory://bucket/run")
    assert finding.state == "warning" and "no locks" in finding.text


def test_an_unreachable_cluster_is_a_problem_and_the_token_stays_secret(monkeypatch, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("secret-token")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray_cluster, "_probe", lambda address: {"error": "ConnectionError: nobody there"})
    found = list(ray_cluster.ray("10.0.0.1:6379", True))
    assert (
        found[0].state == "problem"
        and "nobody there" in found[0].text
        and "RAY_AUTH_MODE=token" in found[0].advice
    )
    assert any("can be read by other users" in f.text for f in found)
    assert "secret-token" not in str(found)


def test_a_probe_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(ray_cluster, "SECONDS", 0.2)
    began = time.monotonic()
    assert "no answer" in ray_cluster._probe(None)["error"]
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("below", ["", "below/it"])
def test_a_run_that_is_a_file_is_a_problem(selfloop, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    found = selfloop("doctor", "--quick", "--run", tmp_path / "file" / below)
    assert found.status == 1 and f"{tmp_path / 'file'} is a file, not a folder" in found.text
