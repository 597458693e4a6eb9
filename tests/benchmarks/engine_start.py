"""Seconds until a vLLM engine answers on this machine's CPU, as a run starts it.

They are compared with a start without what makes that one fast, in one run:

    python -m tests.benchmarks.engine_start            (about 3 minutes on 2 cores)

Prints each setting's seconds, its ratio to the first one and its tokens/s. The last line is an exchange of
weights in the running engine.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

from pipeline.config import VllmEngine
from pipeline.engines import cpu
from pipeline.engines.base import Request, Sampling
from pipeline.models import PACKAGED, resolve_model
from pipeline.places import PROJECT

ARGS = {"max_model_len": 128, "max_num_seqs": 128}  # the quickstart's
QUESTIONS, SAMPLES, TOKENS = 64, 4, 16
SETTINGS: dict[str, dict[str, Any]] = {
    "as a run starts it": {},
    "scheduler and model in two processes": {"two_processes": True},
    "and a KV cache of 5 GiB": {"two_processes": True, "kv_gib": 5},
}


async def measure(setting: dict[str, Any]) -> dict[str, float]:
    """Start an engine, ask it, and exchange its weights for the same ones."""
    model = resolve_model(PACKAGED)
    if setting.get("two_processes"):
        environment = cpu.environment
        cpu.environment = lambda replica, replicas, cores, one_process: environment(
            replica, replicas, cores, False
        )
    began = time.monotonic()
    from pipeline.engines.vllm import VllmClient

    client = VllmClient(VllmEngine(args=ARGS, cpu_kv_gib=setting.get("kv_gib")), model)
    try:
        await client.start()
        await _ask(client, 1, 1)
        started = time.monotonic()
        tokens = await _ask(client, QUESTIONS, SAMPLES)
        asked = time.monotonic()
        await client.reload(model.path)
        return {
            "start": started - began,
            "tokens_per_second": tokens / (asked - started),
            "reload": time.monotonic() - asked,
        }
    finally:
        await client.close()


async def _ask(client: Any, questions: int, samples: int) -> int:
    requests = [
        Request(
            [{"role": "user", "content": f"Write about the number {i}."}],
            sampling=Sampling(max_tokens=TOKENS),
            n=samples,
        )
        for i in range(questions)
    ]
    answers = await asyncio.gather(*(client.generate(request) for request in requests))
    return sum(completion.completion_tokens for answer in answers for completion in answer)


def main() -> None:
    if sys.argv[1:2] == ["--json"]:
        found = asyncio.run(measure(json.loads(sys.argv[2])))
        print(f"\n{json.dumps(found)}", flush=True)
        return
    first: dict[str, float] = {}
    for name, setting in SETTINGS.items():
        command = [sys.executable, "-m", "tests.benchmarks.engine_start", "--json", json.dumps(setting)]
        done = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        found = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
        first = first or found
        print(
            f"{name:40} {found['start']:6.1f} s  {found['start'] / first['start']:.2f}   "
            f"{found['tokens_per_second']:5.0f} tokens/s",
            flush=True,
        )
    print(
        f"{'other weights in the running engine':40} {first['reload']:6.1f} s  "
        f"{first['reload'] / first['start']:.2f}"
    )


if __name__ == "__main__":
    main()
