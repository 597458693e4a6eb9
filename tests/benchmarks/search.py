"""Agent-R's tree search on vLLM against vLLM alone on the very same requests, both in this one run:

    python -m tests.benchmarks.search data/runs/agent_r/models/round-000
    python -m tests.benchmarks.search data/runs/agent_r/models/round-000 16

The model is the one that searches. The first command searches the 26 trees of jobs/recipes/agent_r.yaml
(15 minutes on 2 cores), the second one fewer: the end, when few are left, then weighs more.

vLLM alone gets all requests at once: it waits neither for an environment nor for the step before, and
writes nothing.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import stages  # noqa: F401 - registers the method
from pipeline import cluster
from pipeline.config import Recipe, load_recipe
from pipeline.models import PACKAGED, ModelRef, resolve_model
from pipeline.rundir import RunDir
from pipeline.store import request_log
from pipeline.store.files import join
from pipeline.store.manifest import Manifest
from stages.tasks.freeze import freeze
from tests.benchmarks.overhead import generate, part, write_requests

RECIPE = "jobs/recipes/agent_r.yaml"
NOT_VLLMS = {
    "extra",
    "seed",
}  # fields of Sampling that are no keywords of SamplingParams, or that the CPU engine does not take


def search(folder: Path, recipe: Recipe, model: ModelRef) -> tuple[RunDir, Manifest]:
    """Run the stage that searches, in a run of its own.

    Data on disk and the stage worker's start are part of its seconds.
    """
    run = RunDir(folder)
    freeze(run, recipe)
    return run, asyncio.run(generate(run, recipe, model))


def logged(run: RunDir) -> list[tuple[Any, dict[str, Any]]]:
    """The finished requests of the search as (messages, keywords of vLLM's SamplingParams)."""
    records = request_log.records(join(run.stage(1, "generate"), "requests"))
    return [
        (r["messages"], {"n": r["n"]} | {k: v for k, v in r["sampling"].items() if k not in NOT_VLLMS})
        for r in records
    ]


def compare(folder: Path, name: str = PACKAGED, count: str = "26") -> dict[str, float]:
    """Return the search's tokens/s, those of vLLM alone, their ratio, and what the search did."""
    recipe, model = load_recipe(RECIPE, [f"tasks.options.train={count}"]), resolve_model(name)
    cluster.connect()
    run, found = search(folder / "run", recipe, model)
    alone = part("raw", model.path, write_requests(folder / "requests.json", recipe.engine.args, logged(run)))
    ours = found.tokens.completion / found.seconds
    trees = [row.payload["search"] for row in run.rows(run.stage(1, "generate"))]
    return {
        "trees": len(trees),
        "requests": found.requests.sent,
        "leaves": sum(t["leaves"] for t in trees),
        "steps_per_child": sum(t["environment_steps"] for t in trees) / sum(t["children"] for t in trees),
        "completion_tokens": found.tokens.completion,
        "raw_completion_tokens": alone["completion_tokens"],
        "tokens_per_second": ours,
        "raw_tokens_per_second": alone["tokens_per_second"],
        "of_raw": ours / alone["tokens_per_second"],
    }


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), *arguments)
    print("search: " + ", ".join(f"{k} {v:,.3g}" if v < 10 else f"{k} {v:,.0f}" for k, v in found.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
