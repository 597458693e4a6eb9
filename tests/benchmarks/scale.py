"""What each stage costs as rows grow: rows/s and peak memory of driver and worker, every N in this one run:

python -m tests.benchmarks.scale                           10,000 and 30,000 answers (some three minutes)
python -m tests.benchmarks.scale 100000 1000000            others; 2 GB of disk per million
python -m tests.benchmarks.scale --here 10000              without Ray: stage workers in the driver's process
python -m tests.benchmarks.scale --profile publish 10000   where that stage spends its time

Four answers of some 200 bytes to each question, on the scripted engine. Every stage runs in a process of its
own, so its peak is its own, with some 200 MiB of imports. `tasks` reads and splits the questions; `resume` is
generate with all rows done but the manifest; `votes` is verify by majority_vote; `mixture` loads what a
training reads; `draw` draws the next round's questions by pass rate; `inspect` looks at the run
while generate is under way.
"""

import asyncio
import cProfile
import functools
import json
import pstats
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

import stages  # noqa: F401 - registers the method
from pipeline import cluster
from pipeline.config import Recipe, build_recipe
from pipeline.engines.base import Request
from pipeline.engines.scripted import WORDS, hash_answer
from pipeline.methods import method_stage
from pipeline.models import ModelRef
from pipeline.places import PROJECT
from pipeline.publish.accumulate import Mixture, Part
from pipeline.publish.schema import MANIFEST
from pipeline.round import Round
from pipeline.rundir import RunDir
from pipeline.runner.stage import run_stage
from pipeline.stage import PAIRS, PUBLISH
from pipeline.store import files
from stages.rounds import publishing, questions
from stages.tasks.freeze import freeze
from tests.in_process import stages_in_process

ANSWERS, PADDING = 4, 23
NO_MODEL = ModelRef("", "none", "none")


def answer(request: Request, index: int) -> str:
    """Return some 200 bytes with the question's answer, or in one case of four another one."""
    key = int(request.key("scripted"), 16)
    more = (key * (2 * index + 3)) >> 7
    words = " ".join(WORDS[(more >> 5 * i) % len(WORDS)] for i in range(PADDING))
    head = hash_answer(key, index).partition("\n")[0]
    right = int((request.messages or [])[-1]["content"].partition("Case ")[2].partition(":")[0]) % 97
    return f"{head} {words}\nAnswer: {right if (key >> 3 * index) % 4 else right + 1}"


def recipe_in(folder: Path, verifier: str = "ground_truth") -> Recipe:
    """Return the recipe of the run in `folder`."""
    return build_recipe(
        {
            "name": "scale",
            "engine": {"kind": "scripted", "answers": "tests.benchmarks.scale:answer"},
            "tasks": {"source": "jsonl", "path": str(folder / "tasks.jsonl")},
            "held_out": {"count": 200},
            "method": {"name": "direct", "samples": ANSWERS, "keep_per_question": 2},
            "verifier": verifier,
            "train": {"kind": "dpo"},
        }
    )


def write_tasks(folder: Path, rows: int) -> None:
    """Write the questions of `rows` answers, and those that are held out."""
    with open(folder / "tasks.jsonl", "w") as f:
        for i in range(rows // ANSWERS + 200):
            names = " ".join(WORDS[(i * 7919 + k * k * (i % 31 + 1)) % len(WORDS)] for k in range(12))
            f.write(json.dumps({"question": f"Case {i}: {names}, what is left?", "answer": i % 97}) + "\n")


def tasks(round_: Round, name: str) -> None:
    """Read the questions and freeze them."""
    freeze(round_.run, round_.run.freeze(round_.recipe))


async def row_stage(round_: Round, name: str) -> None:
    """Run one of the method's four stages."""
    from pipeline.engines.pool import EnginePool

    engines = EnginePool(round_.recipe, round_.recipe.engine)
    engine = await engines.use(NO_MODEL) if name == "generate" else None
    before = {"filter": "generate", "verify": "filter", "votes": "filter"}.get(name)
    source = round_.input(before) if before else questions.drawn(round_)
    factory = functools.partial(method_stage, "verify" if name == "votes" else name)
    await run_stage(round_, name, factory, source, engine)
    await engines.free()


async def resumed(round_: Round, name: str) -> None:
    """Run generate again, of which only the manifest is missing."""
    files.remove(files.join(round_.folder("generate"), "manifest.json"))
    await row_stage(round_, "generate")


def inspect(round_: Round, name: str) -> None:
    """Look at the run while its generation is under way."""
    from pipeline import overview

    manifest = Path(files.join(round_.folder("generate"), "manifest.json"))
    stored = manifest.read_bytes()
    manifest.unlink()
    try:
        overview.overview(round_.run)
    finally:
        manifest.write_bytes(stored)


def mixture(round_: Round, name: str) -> None:
    """Load half of the published rows, of those that read the same only one, as a training does."""
    from pipeline.publish.loading import load_mixture

    folder = round_.run.dataset("sft", 1)
    rows = files.read_json(f"{folder}/{MANIFEST}")["rows"]
    load_mixture(Mixture((Part(folder, 1),), rows // 2, distinct=True), round_.recipe.seed)


def drawing(round_: Round, name: str) -> None:
    """Draw the next round's questions by pass rate, from those that have not been asked."""
    round_.recipe.draw.max_pass_rate = 0.9
    source = questions.drawn(round_.at(2))
    sum(1 for _ in source.rows())


STAGES: dict[str, Callable[[Round, str], Any]] = {
    "tasks": tasks,
    "generate": row_stage,
    "resume": resumed,
    "filter": row_stage,
    "votes": row_stage,
    "verify": row_stage,
    PUBLISH: lambda round_, name: publishing.publish_round(round_),
    PAIRS: lambda round_, name: publishing.publish_pairs(round_),
    "mixture": mixture,
    "draw": drawing,
    "inspect": inspect,
}


class Watch(threading.Thread):
    """Samples the memory of this process and of its stage workers, without files that are mapped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.cpu = {"driver": 0.0, "worker": 0.0}, dict[int, float]()
        self._ended = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.1):
            for process in [me, *me.children(recursive=True)]:
                try:
                    if process is not me:
                        if "StageWorker" not in " ".join(process.cmdline()[:1]):
                            continue
                        self.cpu[process.pid] = sum(process.cpu_times()[:2])
                    name, status = "driver" if process is me else "worker", f"/proc/{process.pid}/status"
                    kib = int(Path(status).read_text().partition("RssAnon:")[2].split()[0])
                    self.peak[name] = max(self.peak[name], kib / 1024)
                except (psutil.Error, OSError, IndexError):
                    continue

    def end(self) -> dict[str, float]:
        """Return peaks in MiB, and the workers' CPU seconds."""
        self._ended.set()
        self.join()
        return {**self.peak, "worker_cpu": sum(self.cpu.values())}


def child(name: str, folder: Path, *options: str) -> None:
    """Run one stage in this process and print what it took as JSON; with "--profile", print where first."""
    verifier = "majority_vote" if name == "votes" else "ground_truth"
    round_ = Round(RunDir(folder / "run"), 1, recipe_in(folder, verifier))
    if name in (PUBLISH, PAIRS):
        round_.tokenizer  # noqa: B018 - loaded before the clock starts
    with ExitStack() as stack:
        if "--here" in options:
            stack.enter_context(stages_in_process())
        elif STAGES[name] in (row_stage, resumed):
            cluster.connect()
        watch, profiler = Watch(), cProfile.Profile()
        watch.start()
        began, cpu = time.monotonic(), time.process_time()
        if "--profile" in options:
            profiler.enable()
        done = STAGES[name](round_, name)
        if asyncio.iscoroutine(done):
            asyncio.run(done)
        profiler.disable()
        took = {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu, **watch.end()}
    if "--profile" in options:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(50)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    print(json.dumps(took))


def measure(name: str, folder: Path, *options: str) -> dict[str, float]:
    """Run one stage in a process of its own; return its seconds, CPU seconds and peaks in MiB."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--child", name, str(folder), *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    *text, last = done.stdout.strip().splitlines()
    if "--profile" in options:
        print("\n".join(text))
    return json.loads(last)


def line(name: str, n: int, m: dict[str, float], base: dict[str, float]) -> str:
    """Return what a stage took, with its ratios to the smallest N."""
    cpu, first = (max(0.01, of["cpu"] + of["worker_cpu"]) for of in (m, base))
    text = (
        f"{name:9}{n:>11,} {m['seconds']:8.1f} s {n / m['seconds']:>8,.0f} rows/s {n / cpu:>8,.0f} rows/CPU s"
    )
    text += f"  driver {m['driver']:5,.0f} MiB" + (f"  worker {m['worker']:5,.0f} MiB" if m["worker"] else "")
    if m is base:
        return text
    text += f"  CPU time x{cpu / first:.1f}, driver x{m['driver'] / base['driver']:.2f}"
    return text + (f", worker x{m['worker'] / base['worker']:.2f}" if base["worker"] else "")


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--child"]:
        child(arguments[1], Path(arguments[2]), *arguments[3:])
        return
    here = ["--here"] if "--here" in arguments else []
    profiled = arguments[arguments.index("--profile") + 1] if "--profile" in arguments else ""
    sizes, base = [int(a) for a in arguments if a.isdigit()] or [10_000, 30_000], {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_tasks(Path(folder), n)
            for name in STAGES:
                took = measure(name, Path(folder), *here, *(["--profile"] if name == profiled else []))
                print(line(name, n, took, base.setdefault(name, took)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
