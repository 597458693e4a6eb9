"""Seconds, and CPU seconds of all processes, that commands take before their work begins.

    python -m tests.benchmarks.start_up      (about a minute on 2 cores)

An endpoint on this machine is asked by `generate`: the time is that from the command to the first request.
The other lines are whole commands. Ratios are to the start of an interpreter that imports typer alone.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.places import PROJECT

TIMES = 3  # the fastest counts: whatever else the machine does only makes it slower
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(PROJECT), "RAY_ADDRESS": ""}
STAMPED = """\
import asyncio, sys, time
from tests.engines.server import LocalServer

def stamp(seen):
    if seen.number == 0:
        open(sys.argv[1], "w").write(str(time.time()))

async def main():
    async with LocalServer(plan=stamp) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def command(*arguments: str) -> tuple[float, float]:
    """Run a program; return its seconds, and the CPU seconds of it and its children."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True
    )
    took, after = time.time() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return took, sum(getattr(after, k) - getattr(before, k) for k in ("ru_utime", "ru_stime"))


def first_request(folder: Path) -> tuple[float, float, str]:
    """Generate from an endpoint. Return the seconds to its first request, the command's CPU seconds, which
    count Ray's processes but not the whole of its stage worker, and the run.
    """
    folder.mkdir()
    tasks, recipe, stamp = folder / "tasks.jsonl", folder / "recipe.yaml", folder / "stamp"
    tasks.write_text("\n".join(json.dumps({"question": f"{i} + {i}?", "answer": 2 * i}) for i in range(9)))
    server = subprocess.Popen(
        [sys.executable, "-c", STAMPED, str(stamp)],
        cwd=PROJECT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        engine = {"kind": "openai", "base_url": url, "model": "far"}
        settings = {"name": "start", "engine": engine, "tasks": {"source": "jsonl", "path": str(tasks)}}
        recipe.write_text(json.dumps({**settings, "held_out": {"count": 1}}))
        run, began = str(folder / "run"), time.time()
        _, cpu = command("-m", "jobs.generate", "--recipe", str(recipe), "--run", run, "--round", "1")
        return float(stamp.read_text()) - began, cpu, run
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    fastest, whole = min(command("-c", "import typer") for _ in range(TIMES))
    with tempfile.TemporaryDirectory() as folder:
        asked = [first_request(Path(folder) / str(i)) for i in range(TIMES)]
        run = asked[0][2]
        critique = ("-m", "jobs.critique", "--run", run, "--round")
        lines = {"generate: first request to an endpoint": min((s, c) for s, c, _ in asked)}
        measured = {
            "critique that passes rows through": lambda: _critique(run, critique),
            "inspect": lambda: command("-m", "jobs.cli", "inspect", run),
            "runs": lambda: command("-m", "jobs.cli", "runs", folder),
            "recipes": lambda: command("-m", "jobs.cli", "recipes"),
            "--help": lambda: command("-m", "jobs.cli", "--help"),
            "iterate --help": lambda: command("-m", "jobs.cli", "iterate", "--help"),
        }
        lines |= {name: min(measure() for _ in range(TIMES)) for name, measure in measured.items()}
    for name, (seconds, cpu) in lines.items():
        ratios = f"{seconds / fastest:6.1f} and {cpu / whole:5.1f} times `import typer`"
        print(f"{name:42} {seconds:6.2f} s, {cpu:6.2f} s of CPU, {ratios}")


def _critique(run: str, arguments: tuple[str, ...]) -> tuple[float, float]:
    for file in Path(run, "rounds", "001", "critique").glob("*"):
        file.unlink()
    return command(*arguments, "1")


if __name__ == "__main__":
    main()
