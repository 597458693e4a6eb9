"""What the pipeline costs beside the engine. Every figure is a ratio, both sides measured in this one run:

python -m tests.benchmarks.overhead            all parts (about 6 minutes on 2 cores)
python -m tests.benchmarks.overhead scripted   one of: scripted, endpoint, endpoint_2 (workers), memory, vllm
"""

import asyncio
import functools
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

import stages  # noqa: F401 - registers the method
from pipeline import cluster
from pipeline.config import Recipe, build_recipe
from pipeline.engines.base import Message, Sampling
from pipeline.engines.pool import EnginePool
from pipeline.methods import method_stage
from pipeline.models import ModelRef, resolve_model
from pipeline.places import PROJECT
from pipeline.round import Round, input_of
from pipeline.rundir import RunDir
from pipeline.runner.stage import run_stage
from pipeline.store.manifest import Manifest
from stages.tasks.freeze import freeze

NO_MODEL = ModelRef("", "none", "none")
IN_FLIGHT, LATENCY = 64, 0.05  # of the endpoint
VLLM_ROWS, VLLM_TOKENS = 256, 64
VLLM_ARGS = {"max_model_len": 512, "max_num_seqs": 64}


def recipe_for(
    folder: Path, rows: int, engine: dict[str, Any], sampling: dict[str, Any] | None = None, **runner: Any
) -> tuple[RunDir, Recipe]:
    """Return a run with `rows` frozen questions and its recipe: method direct with one sample."""
    tasks = folder / "tasks.jsonl"
    with open(tasks, "w") as f:
        for i in range(rows + 1):
            f.write(
                json.dumps(
                    {
                        "question": f"Question {i}: what is {i} plus {i * 7 % 1000}?",
                        "answer": i + i * 7 % 1000,
                    }
                )
                + "\n"
            )
    recipe = build_recipe(
        {
            "name": "overhead",
            "engine": engine,
            "tasks": {"source": "jsonl", "path": str(tasks)},
            "held_out": {"count": 1},
            "method": {"name": "direct", "samples": 1},
            "sampling": sampling or {},
            "runner": runner,
        }
    )
    run = RunDir(folder / "run")
    freeze(run, recipe)
    return run, recipe


async def generate(run: RunDir, recipe: Recipe, model: ModelRef = NO_MODEL) -> Manifest:
    """Run the generate stage; an engine's start is not counted, the stage workers' is."""
    engines = EnginePool(recipe, recipe.engine)
    try:
        engine = await engines.use(model)
        factory, tasks = functools.partial(method_stage, "generate"), input_of(run, run.tasks("train"))
        return await run_stage(Round(run, 1, recipe), "generate", factory, tasks, engine)
    finally:
        await engines.free()


class Watch(threading.Thread):
    """Samples memory and CPU time of the driver and the stage workers."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak: dict[str, int] = {}
        self.cpu: dict[int, float] = {}
        self._ended = threading.Event()
        self._before = sum(psutil.Process().cpu_times()[:2])

    def run(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.1):
            for process in [me, *me.children(recursive=True)]:
                try:
                    worker = process != me and "StageWorker" in process.name() + " ".join(
                        process.cmdline()[:1]
                    )
                    if process == me or worker:
                        name = "driver" if process == me else "worker"
                        self.peak[name] = max(self.peak.get(name, 0), process.memory_info().rss)
                        self.cpu[process.pid] = sum(process.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue

    def end(self) -> tuple[dict[str, int], float]:
        """Return peak bytes per kind of process, and CPU seconds of all."""
        self._ended.set()
        self.join()
        return self.peak, sum(self.cpu.values()) - self._before


def scripted(rows: int = 20_000) -> dict[str, float]:
    """Rows per CPU second of a one-call stage without a model.

    Driver and worker are counted together, data on disk included.
    """
    with tempfile.TemporaryDirectory() as folder:
        run, recipe = recipe_for(Path(folder), rows, {"kind": "scripted"})
        cluster.connect()
        watch = Watch()
        watch.start()
        manifest = asyncio.run(generate(run, recipe))
        peak, cpu = watch.end()
        assert manifest.rows_done == rows
        return {
            "rows": rows,
            "rows_per_second": rows / manifest.seconds,
            "rows_per_core_second": rows / cpu,
            "peak_mib": sum(peak.values()) / 2**20,
        }


def endpoint(rows: int = 40_000, workers: int = 1) -> dict[str, float]:
    """Rows/s through an endpoint of 50 ms with 64 in flight in all.

    Measured against the ideal and against a bare aiohttp script.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.engines.server", "--port", "0", "--latency", str(LATENCY)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    try:
        url = server.stdout.readline().split()[-1]
        bare = asyncio.run(_bare_aiohttp(url, rows))
        with tempfile.TemporaryDirectory() as folder:
            engine = {
                "kind": "openai",
                "base_url": url,
                "model": "local",
                "concurrency": IN_FLIGHT // workers,
            }
            run, recipe = recipe_for(
                Path(folder), rows, engine, in_flight=2 * IN_FLIGHT // workers, workers=workers
            )
            cluster.connect()
            began = time.monotonic()
            manifest = asyncio.run(generate(run, recipe))
            whole = time.monotonic() - began
        assert manifest.rows_done == rows
        ideal = IN_FLIGHT / LATENCY
        return {
            "rows_per_second": rows / manifest.seconds,
            "whole_stage_seconds": whole,
            "of_ideal": rows / manifest.seconds / ideal,
            "bare_aiohttp_of_ideal": bare / ideal,
            "of_bare_aiohttp": rows / manifest.seconds / bare,
        }
    finally:
        server.terminate()
        server.wait()


async def _bare_aiohttp(url: str, rows: int) -> float:
    import aiohttp

    left = iter(range(rows))

    async def client(session: aiohttp.ClientSession) -> None:
        for i in left:
            body = {
                "model": "local",
                "messages": [{"role": "user", "content": f"Question {i}: what is {i} plus {i * 7 % 1000}?"}],
            }
            async with session.post(f"{url}/chat/completions", json=body) as response:
                (await response.json())["choices"][0]["message"]["content"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:
        began = time.monotonic()
        await asyncio.gather(*(client(session) for _ in range(IN_FLIGHT)))
        return rows / (time.monotonic() - began)


def memory() -> dict[str, float]:
    """Peak memory of driver and worker at 10,000 and at 200,000 rows, each in a fresh process."""
    small, large = (part("scripted", str(rows))["peak_mib"] for rows in (10_000, 200_000))
    return {"peak_mib_10k": small, "peak_mib_200k": large, "growth": large / small - 1}


def vllm() -> dict[str, float]:
    """Tokens/s of the generate stage over those of vLLM's own offline class.

    Both get the same prompts and engine arguments, and answers of a fixed length.
    """
    model = resolve_model("smollm2-135m-instruct")
    sampling = {"temperature": 1.0, "max_tokens": VLLM_TOKENS, "extra": {"ignore_eos": True}}
    with tempfile.TemporaryDirectory() as folder:
        run, recipe = recipe_for(Path(folder), VLLM_ROWS, {"kind": "vllm", "args": VLLM_ARGS}, sampling)
        method = method_stage("generate", recipe).row.__self__
        params = {
            **sampling["extra"],
            "max_tokens": VLLM_TOKENS,
            **Sampling(temperature=1.0).model_dump(include={"temperature", "top_p"}),
        }
        asked = write_requests(
            Path(folder) / "requests.json",
            VLLM_ARGS,
            [(method.question(row), params) for row in run.rows(run.tasks("train"))],
        )
        before = part("raw", model.path, asked)["tokens_per_second"]
        cluster.connect()
        manifest = asyncio.run(generate(run, recipe, model))
        after = part("raw", model.path, asked)["tokens_per_second"]
    assert manifest.tokens.completion == VLLM_ROWS * VLLM_TOKENS
    ours, raw = manifest.tokens.completion / manifest.seconds, (before + after) / 2
    return {
        "pipeline_tokens_per_second": ours,
        "raw_before": before,
        "raw_after": after,
        "of_raw": ours / raw,
    }


def write_requests(
    path: Path, args: dict[str, Any], asked: list[tuple[list[Message], dict[str, Any]]]
) -> str:
    """Write engine arguments and requests for `raw`; return the file's path.

    A request is its messages and the keywords of vLLM's SamplingParams.
    """
    path.write_text(json.dumps({"args": args, "asked": asked}))
    return str(path)


def raw(model: str, requests: str) -> dict[str, float]:
    """vLLM's offline LLM on the requests of `write_requests`, all at once.

    It runs with the CPU settings that the pipeline works out.
    """
    import os

    from pipeline.engines import cpu

    os.environ.update(cpu.environment(0, 1, None, one_process=True), VLLM_LOGGING_LEVEL="ERROR")
    from vllm import LLM, SamplingParams

    given = json.loads(Path(requests).read_text())
    llm = LLM(
        model, **cpu.engine_args(given["args"]), kv_cache_memory_bytes=cpu.kv_bytes(model, given["args"], 1)
    )
    llm.chat([[{"role": "user", "content": "Hello"}]], SamplingParams(max_tokens=4), use_tqdm=False)
    messages, params = [m for m, _ in given["asked"]], [SamplingParams(**p) for _, p in given["asked"]]
    began = time.monotonic()
    outputs = llm.chat(messages, params, use_tqdm=False)
    tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
    return {"tokens_per_second": tokens / (time.monotonic() - began), "completion_tokens": tokens}


def part(*arguments: str) -> dict[str, float]:
    """Run a part in a process of its own, so that one part's memory and Ray do not disturb another's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.overhead", "--json", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def endpoint_2(rows: int = 40_000) -> dict[str, float]:
    """The same with two stage workers."""
    return endpoint(rows, workers=2)


PARTS = {
    "scripted": scripted,
    "endpoint": endpoint,
    "endpoint_2": endpoint_2,
    "memory": memory,
    "vllm": vllm,
    "raw": raw,
}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--json"]:
        name, *rest = arguments[1:]
        print(json.dumps(PARTS[name](*(int(a) if a.isdigit() else a for a in rest))))
        return
    for name in arguments or ["scripted", "endpoint", "endpoint_2", "memory", "vllm"]:
        print(
            f"{name}: "
            + ", ".join(f"{k} {v:,.3g}" if v < 10 else f"{k} {v:,.0f}" for k, v in part(name).items()),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
