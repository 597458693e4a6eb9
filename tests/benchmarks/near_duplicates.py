"""Near-duplicates against exact ones: both steps over the same rows, from files to files, in this one run:

python -m tests.benchmarks.near_duplicates             1,000,000 rows (some minutes, 3 GB of disk)
python -m tests.benchmarks.near_duplicates 20000       fewer

Eight answers of some 200 bytes to each question; one of them is another one with up to seven words replaced.
What a sample of the questions loses is compared with what exact similarities say.
"""

import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path

from pipeline.config import NearDuplicates
from pipeline.ids import row_id
from pipeline.rows import Kept, Row
from pipeline.runner.steps import rows_in, run_steps
from pipeline.store.parts import PartWriter
from stages.steps.dedup import exact_duplicates, question_of
from stages.steps.near_duplicates import near_duplicates, shingles

ROWS, ANSWERS, SAMPLE = 1_000_000, 8, 20_000
SETTINGS = NearDuplicates()


def made(n: int) -> Iterator[Row]:
    """Yield rows; words are drawn as those of a language are, by 1/rank."""
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(30_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(vocabulary) + 1)))
    for q in range(n // ANSWERS):
        question = " ".join(rng.choices(vocabulary, cum_weights=weights, k=12))
        answers = [rng.choices(vocabulary, cum_weights=weights, k=34) for _ in range(ANSWERS - 1)]
        copy = list(answers[0])
        for place in rng.sample(range(len(copy)), rng.randint(0, 7)):
            copy[place] = rng.choice(vocabulary)
        for i, words in enumerate([*answers, copy]):
            task = f"task-{q}"
            yield Row(row_id([task], "generate", i), {"question": question, "text": " ".join(words)}, [task])


def write(rows: Iterable[Row], folder: str) -> None:
    out = PartWriter(folder, folder, "rows")
    for row in rows:
        out.add(row, Kept([row]))
        if len(out) == 5000:
            out.flush()
    out.flush()


def run(which: str, source: str, folder: str) -> tuple[float, float, float, int]:
    """Run a step in a process of its own.

    Return its seconds, those of CPU, the process's peak memory in GB, and the dropped rows.
    """
    steps = {
        "exact": exact_duplicates(tuple),
        "near": near_duplicates(
            SETTINGS.threshold, SETTINGS.shingle, tuple, lambda row: row.payload["text"], question_of
        ),
    }
    began, cpu = time.perf_counter(), time.process_time()
    entry = run_steps({which: steps[which]}, partial(rows_in, source), folder)[0]
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return seconds, cpu, peak, sum(entry.dropped.values())


def truly_near(rows: Iterable[Row]) -> dict[str, float]:
    """Return the exact largest similarity of each row to one of its question that is settled before it.

    Questions of different texts are unlike, so only rows of one question can be near-duplicates here.
    """
    before: dict[str, list[set[str]]] = {}
    found = {}
    for row in sorted(rows, key=lambda row: row.id):
        mine = set(shingles(row.payload["text"], SETTINGS.shingle))
        others = before.setdefault(row.payload["question"], [])
        found[row.id] = max((len(mine & o) / len(mine | o) for o in others), default=0.0)
        others.append(mine)
    return found


def main(n: int = ROWS) -> None:
    with tempfile.TemporaryDirectory() as root:
        folders = {name: str(Path(root, name)) for name in ("rows", "exact", "near")}
        write(made(n), folders["rows"])
        found = {}
        for which in ("exact", "near"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[which] = pool.apply(run, (which, folders["rows"], folders[which]))
            seconds, cpu, peak, dropped = found[which]
            print(
                f"{which}: {n:,} rows in {seconds:.0f} s ({cpu:.0f} s of CPU), peak {peak:.2f} GB, "
                f"{dropped:,} dropped",
                flush=True,
            )
        kept = {row.id for row in rows_in(folders["near"])}
        similar = truly_near(row for i, row in enumerate(rows_in(folders["rows"])) if i < SAMPLE)
    threshold, dropped = SETTINGS.threshold, similar.keys() - kept
    near, nearer = ({i for i, s in similar.items() if s >= least} for least in (threshold, threshold + 0.05))
    others = min((similar[i] for i in dropped - near), default=threshold)
    print(
        f"near_duplicates: {found['near'][1] / found['exact'][1]:.1f} times the CPU time of exact ones. "
        f"Sample of {len(similar):,}: "
        f"of {len(near):,} rows that are at least {threshold} similar to another, "
        f"{len(near & dropped) / len(near):.1%} dropped, "
        f"of {len(nearer):,} at least {threshold + 0.05:.2f} {len(nearer & dropped) / len(nearer):.1%}; "
        f"of {len(dropped):,} dropped "
        f"{len(near & dropped) / len(dropped):.1%} are, the others at least {others:.2f}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
