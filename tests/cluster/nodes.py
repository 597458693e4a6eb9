"""Two Ray nodes on one machine, each in a network namespace of its own; needs root and iproute2."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.places import PROJECT

RAY = str(Path(sys.executable).parent / "ray")
HEAD, OTHER = "slnode1", "slnode2"
ADDRESSES = {HEAD: "10.213.7.1", OTHER: "10.213.7.2"}
PORT = 6379
START_SECONDS = 240.0


class Nodes:
    """A head and a second node. `home` is the folder that both see."""

    def __init__(self, home: Path, cpus: dict[str, int]) -> None:
        self.home, self.cpus = home, cpus
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # It holds Ray's sockets, and the path of a socket has at most 107 characters.
        self.short = tempfile.mkdtemp(prefix="ray-")
        (home / "token").write_text("a-token-for-this-test-only-0123456789")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k != "PYTHONPATH"}
        self.environment = clean | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "token"),
            "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265",
            "RAY_health_check_failure_threshold": "3",
            "HF_HUB_OFFLINE": "1",
            "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}",  # as an activated environment has it
            "SELFLOOP_NODES": str(home),
        }

    def __enter__(self) -> "Nodes":
        self.remove_network()
        for node in ADDRESSES:
            ip("netns", "add", node)
            ip("-n", node, "link", "set", "lo", "up")
        ip("link", "add", "slveth1", "netns", HEAD, "type", "veth", "peer", "name", "slveth2", "netns", OTHER)
        for node, link in ((HEAD, "slveth1"), (OTHER, "slveth2")):
            ip("-n", node, "address", "add", f"{ADDRESSES[node]}/24", "dev", link)
            ip("-n", node, "link", "set", link, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self.processes):
            self.kill(node)
        self.remove_network()
        shutil.rmtree(self.short, ignore_errors=True)

    def remove_network(self) -> None:
        """Remove the namespaces of this or an earlier run."""
        for node in ADDRESSES:
            subprocess.run(["ip", "netns", "delete", node], capture_output=True, check=False)

    def start(self, node: str, hidden: Path | None = None) -> None:
        """Start a node and wait until the cluster knows it; it does not see the folder `hidden`."""
        command = [RAY, "start", "--block", f"--num-cpus={self.cpus[node]}", "--disable-usage-stats"]
        command += [f"--node-ip-address={ADDRESSES[node]}", "--object-store-memory=200000000"]
        if node == HEAD:
            command += ["--head", f"--port={PORT}", f"--temp-dir={self.short}"]
        else:
            command += [f"--address={ADDRESSES[HEAD]}:{PORT}"]
        # Each machine has a temporary folder of its own, where Ray unpacks and deletes what jobs bring.
        private = [folder for folder in (self.short if node == OTHER else None, hidden) if folder]
        if private:
            mounts = " && ".join(f"mount -t tmpfs none {folder}" for folder in private)
            command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command]
        with open(self.home / f"{node}.log", "ab") as log:
            self.processes[node] = subprocess.Popen(
                self.inside(node, command), env=self.environment, stdout=log, stderr=log, cwd=PROJECT
            )
        self._wait(node)

    def _wait(self, node: str) -> None:
        end, wanted = time.monotonic() + START_SECONDS, len(self.processes)
        while time.monotonic() < end:
            if self.processes[node].poll() is not None:
                break
            said = self.run(HEAD, [RAY, "status", f"--address={ADDRESSES[HEAD]}:{PORT}"], 60)
            if said.stdout.count("node_") >= wanted and "Pending" in said.stdout:
                return
            time.sleep(1)
        raise SystemExit(f"{node} did not start:\n{(self.home / f'{node}.log').read_text()[-3000:]}")

    def inside(self, node: str, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one in a node's namespace."""
        return ["ip", "netns", "exec", node, *command]

    def run(self, node: str, command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a command on a node and return what it said."""
        return subprocess.run(
            self.inside(node, command),
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def submit(self, *arguments: str) -> subprocess.Popen[str]:
        """Submit a job as the documentation has it; its output is that of the process."""
        command = [RAY, "job", "submit", "--working-dir", str(PROJECT), "--", "python", "-m", *arguments]
        return subprocess.Popen(
            self.inside(HEAD, command),
            env=self.environment,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill(self, node: str) -> None:
        """Kill -9 everything that runs on a node, as a machine that loses power."""
        listed = subprocess.run(["ip", "netns", "pids", node], capture_output=True, text=True, check=False)
        for pid in map(int, listed.stdout.split()):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        if process := self.processes.pop(node, None):
            process.wait(60)


def ip(*arguments: str) -> None:
    """Run iproute2's ip. Raises SystemExit with what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(arguments)}: {done.stderr.strip()} (network namespaces need root)")
