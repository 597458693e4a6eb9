"""A finished run of several rounds as the stages leave it, written directly: sums, answered ever better."""

import random
from pathlib import Path
from typing import Any

import orjson

from pipeline.ids import unit_interval
from pipeline.publish import SFT, CardFacts, Lineage
from pipeline.publish.dataset import publish
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.statistics import paired_difference, proportion
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, PartEntry, Requests, StepEntry, Tokens
from pipeline.store.parts import Counts, PartWriter
from stages.rounds.measures import correct_by_task
from stages.rounds.measures import flips as count_flips
from tests.conftest import tiny_recipe

PART_ROWS = 2000
SKILL = {"base": 0.02, 0: 0.36, 1: 0.55, 2: 0.59, 3: 0.66}
OPENINGS = (
    "Let me add these numbers step by step.",
    "We start with the first number and count on.",
    "Adding the tens first is easiest here.",
    "This is a sum of two numbers.",
)


class Finished:
    """The run. `hostile` texts replace the first answers of the last round."""

    def __init__(
        self,
        root: Path,
        rounds: int = 2,
        held_out: int = 60,
        questions: int = 20,
        samples: int = 4,
        hostile: tuple[str, ...] = (),
        **recipe: Any,
    ) -> None:
        self.run, self.hostile = RunDir(root), list(hostile)
        self._rounds, self._samples = rounds, samples
        seed = recipe.get("seed", 0)
        self._random = random.Random(seed)
        given = {"name": "sums", "rounds": rounds, "method": {"name": "direct", "samples": samples}}
        given |= {"demonstrations": {"source": "jsonl", "path": "worked.jsonl"}}
        self.run.freeze(tiny_recipe(**{**given, **recipe}))
        self.tasks = [_task(f"train{i:06d}", i, 3 * i % 41) for i in range(questions * rounds)]
        self.held_out = [_task(f"held{i:06d}", 7 * i % 97, 5 * i % 89) for i in range(held_out)]
        shown = [_task(f"shown{i:03d}", i + 50, i) for i in range(22)]
        for which, rows in (("train", self.tasks), ("held_out", self.held_out), ("demonstrations", shown)):
            self._write(self.run.tasks(which), "tasks", 0, [(r, Kept([r])) for r in rows])
        self._manifest(
            self.run.path("tasks"), "tasks", 0, Counts(done=len(self.tasks), out=len(self.tasks)), []
        )
        self._evaluate("base")
        self._publish(0, [(row, Kept([row])) for row in shown])
        self._train(0)
        self._evaluate(0)
        for r in range(1, rounds + 1):
            self._round(r, self.tasks[(r - 1) * questions : r * questions])

    def _round(self, r: int, tasks: list[Row]) -> None:
        made = [(task, Kept([self._answer(task, r, i) for i in range(self._samples)])) for task in tasks]
        tokens = [row.payload["completion_tokens"] for _, kept in made for row in kept.rows]
        cost = Counts(prompt_tokens=14 * len(made), completion_tokens=sum(tokens), sent=len(made))
        self._write(self.run.stage(r, "generate"), "generate", r, made, cost, seconds=0.02 * sum(tokens) / 8)
        before = self.run.manifest(self.run.stage(r, "generate"))
        assert before
        counts = {"rows_in": before.rows_out, "rows_done": before.rows_out, "rows_out": before.rows_out}
        Manifest(
            stage="critique",
            round=r,
            method="direct",
            fingerprint="f",
            parts=before.parts,
            passes_through="generate",
            **counts,
        ).write(self.run.stage(r, "critique"))
        filtered = [(row, _filter(row)) for _, kept in made for row in kept.rows]
        self._write(self.run.stage(r, "filter"), "filter", r, filtered, seconds=1.2)
        judged = [(row, _verify(row)) for _, o in filtered if isinstance(o, Kept) for row in o.rows]
        self._write(self.run.stage(r, "verify"), "verify", r, judged, seconds=2.5)
        self._publish(r, [(row, Kept([row])) for _, o in judged if isinstance(o, Kept) for row in o.rows])
        self._train(r)
        self._evaluate(r)

    def _answer(self, task: Row, r: int, i: int) -> Row:
        a, b, right = task.payload["a"], task.payload["b"], task.payload["answer"]
        lucky = self._random.random() < SKILL[r - 1]
        said = right if lucky else str(int(right) + self._random.choice([-10, -1, 1, 2, 10]))
        # Later rounds vary less: what the page of texts is there to show.
        opening = OPENINGS[int(self._random.random() * max(1, len(OPENINGS) + 1 - r))]
        text = f"{opening}\n{a} and {b} make {said}." + (
            f"\nAnswer: {said}" if self._random.random() > 0.06 else ""
        )
        if self._random.random() < 0.02:
            text = ""
        if self.hostile and r == self._rounds:
            text = self.hostile.pop(0)
        n = len(text.split())
        return task.child(
            "generate",
            f"{r}/{i}",
            sample=i,
            model=f"round-{r - 1:03d}@0123456789ab",
            text=text,
            finish_reason="stop",
            completion_tokens=n,
        )

    def _publish(self, r: int, verified: list[tuple[Row, Outcome]]) -> None:
        folder, seen, outcomes = self.run.stage(r, "publish"), set(), []
        for row, _ in verified:
            key = (row.payload["task_id"], row.payload.get("text"))
            outcomes.append(
                (
                    row,
                    Dropped("duplicate", "said before", row.payload["text"])
                    if r and key in seen
                    else Kept([row]),
                )
            )
            seen.add(key)
        dropped = sum(isinstance(o, Dropped) for _, o in outcomes)
        step = StepEntry(
            name="exact_duplicates",
            rows_in=len(outcomes),
            rows_out=len(outcomes) - dropped,
            dropped={"duplicate": dropped} if dropped else {},
        )
        self._write(folder, "publish", r, verified, step=step, stepped=outcomes, seconds=0.4)
        kind = "synthetic" if r else "real"
        rows = [
            SFT.row(
                Lineage(
                    row_id=row.id,
                    parent_ids=row.parents,
                    task_id=row.payload["task_id"],
                    kind=kind,
                    round=r,
                    method="direct",
                ),
                prompt=[{"role": "user", "content": row.payload["question"]}],
                completion=[
                    {"role": "assistant", "content": row.payload.get("text") or row.payload["solution"]}
                ],
            )
            for row in self.run.rows(folder)
        ]
        publish(rows, self.run.dataset("sft", r), CardFacts("sums", "direct", "tiny@1", r), 0)

    def _train(self, r: int) -> None:
        folder, steps = self.run.stage(r, "train"), 60
        kept = {i: self.run.manifest(self.run.stage(i, "publish")).rows_out for i in range(r + 1)}  # type: ignore[union-attr]
        lines = [
            {
                "step": s,
                "total": steps,
                "epoch": s / 20,
                "tokens": 410 * s,
                "seconds": 1.6 * s,
                "learning_rate": 1e-4,
                "grad_norm": 1.0,
                "loss": 0.35 + 2.2 * 0.93**s / (1 + 0.3 * r) + 0.08 * self._random.random(),
                "tokens_per_second": 230 + 30 * self._random.random(),
            }
            for s in range(1, steps + 1)
        ]
        files.write_bytes(
            files.join(folder, "progress.jsonl"), b"".join(orjson.dumps(x) + b"\n" for x in lines)
        )
        result = {
            "model": self.run.model(r),
            "revision": "0123456789ab",
            "base": "tiny@1",
            "steps": steps,
            "examples": sum(kept.values()),
            "left_out": 0,
            "tokens": 24_600,
            "seconds": 96.0,
            "tokens_per_second": 256.2,
            "final_loss": lines[-1]["loss"],
            "shares": {
                "real": kept[0],
                "synthetic": sum(kept.values()) - kept[0],
                "rounds": {str(k): n for k, n in kept.items()},
            },
            "hyperparameters": {"learning_rate": 1e-4},
            "versions": {},
            "fingerprint": {},
            "kind": "sft",
            "rewards": None,
        }
        files.write_json(files.join(folder, "train.json"), result)

    def _evaluate(self, r: RoundKey) -> None:
        outcomes: list[tuple[Row, Outcome]] = []
        for task in self.held_out:
            ease, chance = unit_interval(task.id), self._random.random()
            right = 0.75 * ease + 0.25 * chance < SKILL[r]
            read = right or self._random.random() > 0.3 - 0.09 * (r if isinstance(r, int) else -1)
            said = task.payload["answer"] if right else str(int(task.payload["answer"]) + 1)
            text = f"{task.payload['a']} and {task.payload['b']} make {said}." + (
                f"\nAnswer: {said}" if read else ""
            )
            greedy = {
                "text": text,
                "correct": right,
                "extracted": said if read else None,
                "problem": "" if right else "wrong_answer" if read else "no_answer",
                "key": said,
                "tokens": 9,
            }
            outcomes.append((task, Kept([task.child("evaluate", str(r), greedy=greedy, samples=[])])))
        self._write(self.run.stage(r, "evaluate"), "evaluate", r, outcomes, seconds=45.0)
        right = correct_by_task(self.run, r)
        facts: dict[str, Any] = {
            "round": r,
            "model": "m@1",
            "n": len(right),
            "failed": 0,
            "greedy": proportion(list(right.values()))._asdict(),
        }
        facts |= {
            "parsed": sum(o.rows[0].payload["greedy"]["extracted"] is not None for _, o in outcomes),
            "mean_tokens": 9.0,
            "tokens": 9 * len(right),
            "seconds": 45.0,
        }
        if r != "base":
            before: RoundKey = "base" if r == 0 else int(r) - 1
            for name, other in (("previous", before), ("round_0", 0))[: 2 if r else 1]:
                old = correct_by_task(self.run, other)
                lost, won = count_flips(old, right)
                facts[f"against_{name}"] = {
                    "round": other,
                    "right_to_wrong": lost,
                    "wrong_to_right": won,
                    "difference": paired_difference(old, right)._asdict(),
                }
        files.write_json(self.run.evaluation(r), facts)

    def _write(
        self,
        folder: str,
        stage: str,
        r: RoundKey,
        outcomes: list[tuple[Row, Outcome]],
        cost: Counts | None = None,
        *,
        step: StepEntry | None = None,
        stepped: list[tuple[Row, Outcome]] | None = None,
        seconds: float = 0.0,
    ) -> None:
        files.write_json(files.join(folder, "fingerprint.json"), {})
        writer = PartWriter(files.join(folder, "rows") if step else folder, folder, "00000")
        for i, (row, outcome) in enumerate(outcomes):
            writer.add(row, outcome, cost if i == 0 else None)
            if len(writer) >= PART_ROWS:
                writer.flush()
        writer.flush()
        if stepped is not None:
            steps = PartWriter(folder, folder, "step-0")
            for row, outcome in stepped:
                steps.add(row, outcome)
            steps.flush()
        total = Counts()
        for _, outcome in outcomes:
            total.add_outcome(outcome)
        if cost:
            total.add(cost)
        self._manifest(folder, stage, r, total, [step] if step else [], seconds)

    def _manifest(
        self,
        folder: str,
        stage: str,
        r: RoundKey,
        total: Counts,
        steps: list[StepEntry],
        seconds: float = 0.0,
    ) -> None:
        where = self.run.tasks("train") if folder == self.run.path("tasks") else folder
        entries = [
            PartEntry(
                path=p.removeprefix(self.run.root).lstrip("/"),
                rows=parts.row_count(p),
                sha256=parts.sha256(p),
            )
            for p in files.glob(where, "part-*.arrow")
        ]
        Manifest(
            stage=stage,
            round=r,
            method="direct",
            fingerprint="f",
            rows_in=total.rows_in,
            rows_done=total.done,
            rows_dropped=total.dropped,
            rows_failed=total.failed,
            rows_out=sum(e.rows for e in entries),
            parts=entries,
            steps=steps,
            seconds=seconds,
            tokens=Tokens(prompt=total.prompt_tokens, completion=total.completion_tokens),
            requests=Requests(sent=total.sent),
            model="tiny@1" if total.sent else "",
        ).write(folder)


def _task(name: str, a: int, b: int) -> Row:
    task = {
        "task_id": name,
        "question": f"What is {a} + {b}?",
        "answer": str(a + b),
        "answer_type": "number",
        "a": a,
        "b": b,
    }
    return Row(
        name,
        task
        | ({"solution": f"{a} and {b} make {a + b}.\nAnswer: {a + b}"} if name.startswith("shown") else {}),
    )


def _filter(row: Row) -> Outcome:
    return (
        Kept([row.child("filter", 0)])
        if row.payload["text"]
        else Dropped("empty_answer", "the text is blank")
    )


def _verify(row: Row) -> Outcome:
    text, right = row.payload["text"], row.payload["answer"]
    if "Answer:" not in text:
        return Dropped("no_answer", "no line begins with 'Answer:'", text)
    said = text.rsplit("Answer:", 1)[1].strip()
    if not said.lstrip("-").isdigit():
        return Failed("ValueError", "not a number (verifiers.py:1)", text)
    if said != right:
        return Dropped("wrong_answer", f"extracted {said}, expected {right}", text)
    verdict = {"correct": True, "extracted": said, "problem": "", "score": None}
    return Kept([row.child("verify", 0, verdict=verdict)])
