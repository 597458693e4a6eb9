"""A run on two Ray nodes, by the documentation's commands, and what becomes of it when a node is lost.

    python -m tests.cluster.two_nodes [WORD]      (needs root and iproute2; WORD: only what its line has)

The nodes are two raylets in network namespaces with a shared folder. A tiny model is trained, the scripted
engine answers. Prints a line for each of: the stages submitted singly and the loop, a node that dies in the
middle of generate, one that dies in the middle of train and comes back, a head that restarts, a node without
the shared folder.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from pipeline.engines.base import Request
from pipeline.rundir import RunDir
from pipeline.store import request_log
from tests.cluster.nodes import HEAD, OTHER, Nodes
from tests.scripted_answers import sums
from tests.training.conftest import _tiny_model

QUESTIONS, HELD_OUT, STEPS = 400, 20, 60
LINES = (  # jobs/README.md, "Stage by stage"
    *("train --round 0", "evaluate --base", "evaluate --round 0", "generate --round 1"),
    *("critique --round 1", "filter --round 1", "verify --round 1", "train --round 1", "evaluate --round 1"),
)
JOB_SECONDS = 900.0
AWAY_SECONDS = 20.0


def answers(request: Request, index: int) -> str:
    """Answer sums, and note on which node."""
    import os

    import ray

    where = Path(os.environ["SELFLOOP_NODES"]) / "nodes"
    where.mkdir(exist_ok=True)
    (where / ray.util.get_node_ip_address()).touch()
    return sums(request, index)


def write_recipe(home: Path) -> Path:
    """Write a recipe with a round of demonstrations and one of generated answers, and its model."""
    tasks = [{"question": f"What is {i} + {i % 7}?", "answer": i + i % 7} for i in range(QUESTIONS)]
    examples = [{"question": f"What is 9{i} + 1?", "answer": 901 + i} for i in range(10)]
    for name, rows in (("tasks", tasks), ("demonstrations", examples)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "nodes",
        "rounds": 1,
        "model": {"base": str(_tiny_model(home / "model"))},
        "engine": {"kind": "scripted", "answers": f"{__spec__.name}:answers", "latency": 3, "jitter": 0.5},
        "tasks": {"source": "jsonl", "path": str(home / "tasks.jsonl")},
        "demonstrations": {"source": "jsonl", "path": str(home / "demonstrations.jsonl")},
        "held_out": {"count": HELD_OUT},
        "train": {
            **{"max_steps": STEPS, "save_steps": 2, "batch_size": 4, "max_length": 128},
            "cpus_per_worker": 3,  # more than the head has: what trains is on the other node
        },
        "runner": {"in_flight": 16},
    }
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return home / "recipe.yaml"


class Trial:
    """Runs below one shared folder, submitted to two nodes."""

    def __init__(self, nodes: Nodes, recipe: Path) -> None:
        self.nodes, self.recipe = nodes, recipe

    def job(self, *arguments: str) -> tuple[int, str]:
        """Submit a job and wait. Return its exit status and output."""
        process = self.nodes.submit(*arguments)
        said, _ = process.communicate(timeout=JOB_SECONDS)
        return process.returncode, said

    def loop(self, run: Path) -> list[str]:
        """Return the command of the whole loop."""
        return ["jobs.iterate", str(self.recipe), "--run", str(run)]

    def singly(self, run: Path) -> str:
        """Submit the stages of a round one by one, then the loop, which finds them done."""
        seen = self.nodes.home / "nodes"
        for i, line in enumerate(LINES):
            name, *rest = line.split()
            extra = ["--recipe", str(self.recipe)] if i == 0 else []
            status, said = self.job(f"jobs.{name}", "--run", str(run), *rest, *extra)
            assert status == 0, f"{line}:\n{said}"
        status, said = self.job(*self.loop(run))
        assert status == 0 and "held-out accuracy" in said, said
        return f"{len(LINES)} jobs and the loop; answered on {len(list(seen.iterdir()))} node(s)"

    def disturbed(self, run: Path, reached: str, count: int, victim: str) -> str:
        """Start the loop, kill a node once `count` files or lines match `reached`, and see the end."""
        process = self.nodes.submit(*self.loop(run))
        while process.poll() is None and amount(run, reached) < count:
            time.sleep(0.2)
        assert process.poll() is None, process.communicate()[0]
        self.nodes.kill(victim)
        killed = time.monotonic()
        if victim == OTHER and "train" in reached:
            time.sleep(AWAY_SECONDS)  # the head has too few cores to train: it waits for the node
            self.nodes.start(OTHER)
        said, _ = process.communicate(timeout=JOB_SECONDS)
        ended = process.returncode != 0
        if victim == HEAD:
            self.nodes.kill(OTHER)
            self.nodes.start(HEAD)
        elif ended:
            assert "Traceback" not in said, said
            print(f"    {last_words(said)}", flush=True)
        if OTHER not in self.nodes.processes:
            self.nodes.start(OTHER)
        if ended:
            status, said = self.job(*self.loop(run))
            assert status == 0, said
        return f"{'started again, ' if ended else ''}{time.monotonic() - killed:.0f} s to the end"


def amount(run: Path, reached: str) -> int:
    """Return how many lines (of .jsonl) or files match a pattern below a run."""
    found = list(run.glob(reached))
    return sum(len(p.read_bytes().splitlines()) if p.suffix == ".jsonl" else 1 for p in found)


def last_words(said: str) -> str:
    """Return the last line of a job that says why it ended."""
    lines = [line for line in said.splitlines() if line.strip() and "Job '" not in line]
    return lines[-1] if lines else ""


def compared(run: Path, other: Path) -> str:
    """Compare a disturbed run with an undisturbed one: the same rows, and no request lost."""
    ids = [
        [sorted(row.id for row in r.rows(r.stage(1, name))) for name in ("generate", "verify")]
        for r in (RunDir(run), RunDir(other))
    ]
    assert ids[0] == ids[1], "rows differ from those of the undisturbed run"
    asked = Counter(r["key"] for r in request_log.records(f"{RunDir(run).stage(1, 'generate')}/requests"))
    return (
        f"the same {len(ids[0][0])} rows; {sum(asked.values()) - len(asked)} of {len(asked)} requests twice"
    )


def main() -> None:
    """Run everything, or what was asked for; print a line each."""
    wanted = " ".join(sys.argv[1:])
    home = Path(tempfile.mkdtemp(prefix="sl-nodes-"))
    shared = home / "shared"
    shared.mkdir()
    with Nodes(home, {HEAD: 2, OTHER: 4}) as nodes:
        trial = Trial(nodes, write_recipe(home))
        nodes.start(HEAD)
        nodes.start(OTHER)
        calm = shared / "calm"
        if wanted in "stage by stage":
            print(f"stage by stage: {trial.singly(calm)}", flush=True)
        else:
            trial.job(*trial.loop(calm))
        for what, reached, count, victim in (
            ("node lost in generate", "rounds/001/generate/requests/*.jsonl", 50, OTHER),
            ("node lost in train", "rounds/001/train/**/checkpoint-*", 1, OTHER),
            ("head lost in generate", "rounds/001/generate/requests/*.jsonl", 50, HEAD),
        ):
            if wanted not in what:
                continue
            run = shared / what.replace(" ", "-")
            print(
                f"{what}: {trial.disturbed(run, reached, count, victim)}; {compared(run, calm)}", flush=True
            )
        if wanted not in "node without the shared folder":
            return
        nodes.kill(OTHER)
        nodes.start(OTHER, hidden=shared)
        status, said = trial.job(*trial.loop(shared / "hidden"))
        print(f"node without the shared folder: exit {status}: {last_words(said)}", flush=True)


if __name__ == "__main__":
    main()
