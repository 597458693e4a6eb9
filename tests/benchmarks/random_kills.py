"""kill -9 of random processes of a whole loop with training, on a tiny model made up on the spot.

python -m tests.benchmarks.random_kills --kills 100 --seed 0

The driver, a stage worker, the engine, the raylet, Ray's GCS or a training worker is killed at random.
Where the command ends with it, the same command is started again, and a finished run is followed by another
one. In the end every run has the rows of an undisturbed one, no finished request was sent again, and no
process, held lock or temporary file is left. Only processes that carry this program's mark are killed.
"""

import argparse
import asyncio
import fcntl
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.config import dump_recipe
from pipeline.engines.base import Completion, Engine, ReplicatedSection, Request
from pipeline.models import ModelRef
from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from pipeline.store import request_log
from tests.faults.driver import MARK, kill_all, marked, nothing_left
from tests.scripted_answers import sums

IN_FLIGHT = 4
VICTIMS = {
    "driver": "",
    "stage worker": "ray::StageWork",
    "engine": "ray::EngineRep",
    "raylet": "raylet",
    "GCS": "gcs_server",
    "training worker": "ray::RayTrainW",
}


class Answers(Engine):
    """Scripted answers from an actor, which notes what it is asked."""

    class Config(ReplicatedSection):
        """Its section."""

        asked: str

    is_endpoint = False
    replicated = True
    serves_trained_models = True

    @classmethod
    def create(cls, config: Any, model: ModelRef, **_: Any) -> "Answers":
        engine = cls(config)
        engine.model = model.label
        return engine

    model = ""

    async def generate(self, request: Request) -> list[Completion]:
        with open(self.config.asked, "a") as f:
            f.write(request.key(self.model) + "\n")
        await asyncio.sleep(0.3)
        return [Completion(sums(request, i), "stop", 1, 8) for i in range(request.n)]


class Loop:
    """`python -m jobs.iterate` on one run directory."""

    def __init__(self, folder: Path, model: Path, name: str) -> None:
        from tests.stages.rounds.test_loop import recipe_in

        home = folder / name
        home.mkdir()
        engine = {"kind": "tests.benchmarks.random_kills:Answers", "asked": str(home / "asked")}
        runner = {"in_flight": IN_FLIGHT, "part_rows": 10, "part_seconds": 2}
        train = {"max_steps": 6, "batch_size": 2, "save_steps": 2}
        recipe = recipe_in(home, model, rounds=1, engine=engine, runner=runner, train=train)
        (home / "recipe.yaml").write_text(dump_recipe(recipe))
        self.home, self.mark, self.run = home, f"{os.getpid()}-{name}", RunDir(home / "run")
        self._recipe = str(home / "recipe.yaml")

    def start(self) -> subprocess.Popen[bytes]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        # Ray looks for a dead raylet for 15 s by default.
        env |= {MARK: self.mark, "HF_HUB_OFFLINE": "1", "RAY_health_check_period_ms": "500"}
        with open(self.home / "out", "ab") as out:
            command = [sys.executable, "-m", "jobs.iterate", self._recipe, "--run", self.run.root]
            return subprocess.Popen(
                command, cwd=PROJECT, stdout=out, stderr=out, start_new_session=True, env=env
            )

    def ids(self) -> dict[str, list[str]]:
        """The ids of all rows, by stage."""
        stages = sorted(Path(self.run.root, "rounds").glob("*/*/manifest.json"))
        found = {f"{p.parts[-3]}/{p.parts[-2]}": self.run.rows(str(p.parent)) for p in stages}
        return {name: sorted(row.id for row in rows) for name, rows in found.items()}

    def sent_again(self) -> int:
        """Requests that reached an engine more than once."""
        asked = (self.home / "asked").read_text().split()
        return len(asked) - len(set(asked))

    def answered_twice(self) -> int:
        """Finished requests that were sent again although their answer was in the log."""
        logs = Path(self.run.root, "rounds").glob("*/*/requests")
        keys = Counter((str(log), r["key"]) for log in logs for r in request_log.records(str(log)))
        return keys.total() - len(keys)

    def left(self) -> list[str]:
        """Temporary files, and locks that somebody holds."""
        found = []
        for path in Path(self.run.root).rglob("*"):
            if path.name.endswith((".tmp", ".old", ".part")):
                found.append(str(path))
            elif path.is_file() and (path.name.endswith(".lock") or path.name == "lock"):
                with open(path) as f:
                    try:
                        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        found.append(f"{path} (held)")
        return found


def victim(loop: Loop, driver: subprocess.Popen[bytes], kind: str) -> psutil.Process | None:
    """Return a process of one kind that runs now."""
    if kind == "driver":
        return psutil.Process(driver.pid)
    for process in marked(loop.mark):
        with suppress(psutil.Error):
            if process.name().startswith(VICTIMS[kind]):
                return process
    return None


def kill_one(loop: Loop, driver: subprocess.Popen[bytes], kind: str, chance: random.Random) -> bool:
    """Kill a process of one kind a moment after it is there; False when the command ended before."""
    wait = chance.uniform(0, 25) if kind in ("driver", "raylet", "GCS") else chance.uniform(0, 3)
    while driver.poll() is None:
        with suppress(psutil.Error):
            if found := victim(loop, driver, kind):
                time.sleep(wait)
                if found.is_running() and found.status() != psutil.STATUS_ZOMBIE:
                    found.kill()
                    return True
        time.sleep(0.2)
    return False


def settle(driver: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the end of a command that lost its driver, raylet or GCS."""
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"the command did not end within {seconds:.0f} s of a kill") from None


def disturbed(folder: Path, model: Path, kills: int, seed: int, killed: Counter[str]) -> list[Loop]:
    """Run loops until `kills` processes were killed, and finish the last one. Returns the loops."""
    chance, loops = random.Random(seed), [Loop(folder, model, "killed-0")]
    driver = loops[0].start()
    try:
        while killed.total() < kills:
            kind = chance.choice(list(VICTIMS))
            if kill_one(loops[-1], driver, kind, chance):
                killed[kind] += 1
                print(f"{killed.total()}/{kills}: {kind}", flush=True)
                if kind in ("driver", "raylet", "GCS"):
                    settle(driver, 180)
            if driver.poll() is not None:
                nothing_left(loops[-1].mark, 120)
                if driver.returncode == 0:
                    loops.append(Loop(folder, model, f"killed-{len(loops)}"))
                driver = loops[-1].start()
        if driver.wait(900):
            driver = loops[-1].start()  # the last kill was the driver's or the raylet's
            assert driver.wait(900) == 0, (loops[-1].home / "out").read_text()[-3000:]
        nothing_left(loops[-1].mark, 120)
    finally:
        for loop in loops:
            kill_all(loop.mark)
    return loops


def main() -> None:
    """Print a table of what was killed and what came of it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    from tests.training.conftest import _tiny_model

    with tempfile.TemporaryDirectory(prefix="random-kills-") as name:
        folder, killed, began = Path(name), Counter[str](), time.monotonic()
        model = _tiny_model(folder / "tiny")
        alone = Loop(folder, model, "alone")
        try:
            assert alone.start().wait(900) == 0, (alone.home / "out").read_text()[-3000:]
        finally:
            kill_all(alone.mark)
        loops, expected = disturbed(folder, model, given.kills, given.seed, killed), alone.ids()
        table = {
            "kills": f"{killed.total()}: " + ", ".join(f"{n} {kind}" for kind, n in killed.most_common()),
            "runs finished": len(loops),
            "runs with other rows": sum(loop.ids() != expected for loop in loops),
            "rows compared": sum(map(len, expected.values())) * len(loops),
            "requests in flight sent again": (
                f"{sum(loop.sent_again() for loop in loops)} (at most {killed.total() * IN_FLIGHT})"
            ),
            "finished requests sent again": sum(loop.answered_twice() for loop in loops),
            "temporary files and held locks": [one for loop in loops for one in loop.left()],
            "tracebacks shown": sum((loop.home / "out").read_text().count("Traceback") for loop in loops),
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        for what, value in table.items():
            print(f"{what:32} {value}")


if __name__ == "__main__":
    main()
