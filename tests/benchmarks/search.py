"""Agent-R's tree search on vLLM against vLLM alone on the very same requests, both in this one run:

    python -m tests.benchmarks.search                             40 trees of jobs/agent_r.yaml, untrained model (a few minutes on 2 cores)
    python -m tests.benchmarks.search data/runs/agent_r/models/round-000      the model that this run searched with

vLLM alone gets all requests at once, so it never waits for an environment, for a tree's next leaf or for the log.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import stages  # noqa: F401 - registers the method
from pipeline import cluster
from pipeline.config import load_recipe
from pipeline.engines.base import Sampling
from pipeline.models import PACKAGED, resolve_model
from pipeline.rundir import RunDir
from pipeline.store import request_log
from pipeline.store.files import join
from stages.tasks.freeze import freeze
from tests.benchmarks.overhead import generate, part

RECIPE, TREES = "jobs/agent_r.yaml", 40
ENVIRONMENT = f"tasks.options.train={TREES}"


def search(model: str) -> dict[str, float]:
    """Tokens/s of the stage that searches, data on disk and stage worker's start included, between two runs of vLLM alone."""
    recipe, found = load_recipe(RECIPE, [ENVIRONMENT]), resolve_model(model)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder) / "run")
        freeze(run, recipe)
        cluster.connect()
        manifest = asyncio.run(generate(run, recipe, found))
        trees = [row.payload["search"] for row in run.rows(run.stage(1, "generate"))]
        asked = Path(folder) / "requests.json"
        asked.write_text(json.dumps(list(request_log.records(join(run.stage(1, "generate"), "requests")))))
        alone = part("tests.benchmarks.search", "raw", found.path, str(asked))
        again = asyncio.run(generate(_second(Path(folder), recipe), recipe, found))
    ours, raw = [m.tokens.completion / m.seconds for m in (manifest, again)], alone["tokens_per_second"]
    return {
        "trees": len(trees), "requests": manifest.requests.sent, "completion_tokens": manifest.tokens.completion, "leaves": sum(t["leaves"] for t in trees),
        "steps_per_child": sum(t["environment_steps"] for t in trees) / sum(t["children"] for t in trees),
        "search_tokens_per_second": ours[0], "search_again": ours[1], "raw_tokens_per_second": raw, "of_raw": sum(ours) / 2 / raw,
    }  # fmt: skip


def _second(folder: Path, recipe: object) -> RunDir:
    run = RunDir(folder / "second")
    freeze(run, recipe)
    return run


def raw(model: str, requests: str) -> dict[str, float]:
    """vLLM's offline LLM on the logged requests, with the recipe's engine arguments and the CPU settings that the pipeline works out."""
    import os
    import time

    from pipeline.engines import cpu

    os.environ.update(cpu.environment(0, 1, None, one_process=True), VLLM_LOGGING_LEVEL="ERROR")
    from vllm import LLM, SamplingParams

    recipe = load_recipe(RECIPE, [ENVIRONMENT])
    args = recipe.engine.args
    llm = LLM(model, **cpu.engine_args(args), kv_cache_memory_bytes=cpu.kv_bytes(model, args, 1))
    records = json.loads(Path(requests).read_text())
    fields = set(Sampling.model_fields) - {"extra", "seed"}
    params = [SamplingParams(n=r["n"], **{k: v for k, v in r["sampling"].items() if k in fields}) for r in records]
    llm.chat([[{"role": "user", "content": "Hello"}]], SamplingParams(max_tokens=4), use_tqdm=False)
    began = time.monotonic()
    outputs = llm.chat([r["messages"] for r in records], params, use_tqdm=False)
    tokens = sum(len(sample.token_ids) for o in outputs for sample in o.outputs)
    return {"tokens_per_second": tokens / (time.monotonic() - began), "completion_tokens": tokens}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--json"]:
        print(json.dumps(raw(*arguments[2:])))
        return
    found = search(arguments[0] if arguments else PACKAGED)
    print("search: " + ", ".join(f"{k} {v:,.3g}" if v < 10 else f"{k} {v:,.0f}" for k, v in found.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
