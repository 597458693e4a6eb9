"""What stages took per row: in a run's own manifests, or in a sample that asks the model a few questions."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from pipeline.config import Recipe
from pipeline.errors import SelfloopError
from pipeline.rundir import RunDir
from pipeline.stage import PROPOSE, RESUMED, STAGES, TRAIN
from pipeline.store import files
from pipeline.store.manifest import Manifest
from pipeline.training import TrainResult
from stages.rounds import closed_book
from stages.rounds.measures import answer_name, stage_name


class Measured(NamedTuple):
    """Sums over some rows of one stage; `seconds` without the start of an engine, None if unknown."""

    rows: int
    out: int
    requests: int
    prompt: int
    completion: int
    seconds: float | None
    answers: int = 0  # completions to the plain question, where the stage asks for nothing else

    @classmethod
    def of(cls, manifests: Iterable[Manifest]) -> Self:
        """Return the sums of manifests of one stage."""
        done = list(manifests)
        requests = sum(m.requests.sent + m.requests.from_log for m in done)
        prompt, completion = (sum(getattr(m.tokens, name) for m in done) for name in ("prompt", "completion"))
        rows, out = sum(m.rows_in for m in done), sum(m.rows_out for m in done)
        return cls(rows, out, requests, prompt, completion, sum(m.seconds for m in done))

    def per_row(self) -> tuple[float, float, float, float]:
        """Return rows out, requests, prompt and completion tokens for each row in."""
        rows = max(1, self.rows)
        return self.out / rows, self.requests / rows, self.prompt / rows, self.completion / rows

    @property
    def answer_tokens(self) -> float:
        """Mean tokens of an answer to the plain question, 0 if unknown."""
        return self.completion / self.answers if self.answers else 0.0


def in_run(run: RunDir, recipe: Recipe) -> dict[str, Measured]:
    """Return what each stage took in the last round that finished it."""
    names = [PROPOSE, *STAGES, "publish", RESUMED, closed_book.STAGE]
    names += [of(name) for name in (None, *recipe.evaluate.sets) for of in (answer_name, stage_name)]
    last = {name: m for r in run.rounds() for name in names if (m := run.manifest(run.stage(r, name)))}
    return {name: Measured.of([m]) for name, m in last.items() if m.rows_in}


def trained(run: RunDir) -> TrainResult | None:
    """Return the result of the run's last training, if there is one."""
    paths = [files.join(run.stage(r, TRAIN), "train.json") for r in reversed(run.rounds()) if r != "base"]
    found = next((path for path in paths if files.exists(path)), None)
    return TrainResult(**files.read_json(found)) if found else None


async def sampled(recipe: Recipe, tasks: RunDir, n: int, beside: Path) -> tuple[dict[str, Measured], str]:
    """Take `n` questions through the stages of round 1 with the untrained model, in a folder of its own.

    Returns what each stage took, and why the sample ended early, if it did. `tasks` has the frozen tasks;
    the folder is made `beside`, which all nodes of a cluster must see, and removed.
    """
    from stages.rounds.loop import Loop

    changes = {"rounds": 1, "questions_per_round": n, "new_questions": False, "demonstrations": None}
    small = recipe.model_copy(update=changes)
    beside.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=".sample-", dir=beside)
    run, why = RunDir(folder), ""
    try:
        shutil.copytree(tasks.path("tasks"), run.path("tasks"))
        async with Loop(run, small) as loop:
            for name in STAGES:
                try:
                    await loop.stage(1, name)
                except SelfloopError as e:
                    why = f"{name}: {str(e).splitlines()[0]}"
                    break
        done = {name: m for name in STAGES if (m := run.manifest(run.stage(1, name))) and m.rows_in}
        return {name: Measured.of([m]) for name, m in done.items()}, why
    finally:
        shutil.rmtree(folder, ignore_errors=True)
