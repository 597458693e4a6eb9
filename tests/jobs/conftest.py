"""A small run as the stages leave it: three tasks, one round done up to its published data, one under way."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.config import dump_recipe
from pipeline.engines.base import Completion, Sampling
from pipeline.ids import row_id
from pipeline.publish import SFT, CardFacts, Lineage
from pipeline.publish.dataset import publish
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.rundir import RunDir
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, PartEntry, Requests, StepEntry, Tokens
from pipeline.store.parts import Counts, PartWriter
from pipeline.store.request_log import RequestLogWriter
from tests.conftest import tiny_recipe

MODEL = "tiny@0123456789ab"
HOSTILE = "\x1b[31mred\x1b[0m [bold]not bold[/bold] :smile: \x9b2J \u202eback [/] \x07" + "long " * 2000
ANSWERS = {
    "t1": ["2 and 2 make 4.\nAnswer: 4", HOSTILE],
    "t2": ["Answer: 7", ""],
    "t3": ["Answer: 6", "Answer: 6"],
}


class Built:
    """The run, and the rows that tests ask for."""

    def __init__(self, root: Path) -> None:
        self.run = RunDir(root)
        recipe = tiny_recipe(name="small", rounds=2, evaluate={"base_model": False})
        files.write_bytes(self.run.path("run.yaml"), dump_recipe(recipe).encode())
        self.tasks = [
            Row(
                f"{name}-a-task-of-its-own",
                {
                    "task_id": f"{name}-a-task-of-its-own",
                    "question": f"Question {name}?",
                    "answer": "4",
                    "answer_type": "number",
                },
            )
            for name in ANSWERS
        ]
        self.generated: dict[tuple[str, int], Row] = {}
        self._write_tasks()
        self._generate(1)
        self._pass_through("critique", "generate")
        self._filter()
        self._verify()
        self._publish()
        self._generate(2, unfinished=True)

    def child(self, of: str, sample: int, *stages: str) -> str:
        """Return the id of a generated row's descendant."""
        found = self.generated[of, sample].id
        for stage in stages:
            found = row_id([found], stage, 0)
        return found

    def _write_tasks(self) -> None:
        for which, rows in (("train", self.tasks), ("held_out", []), ("demonstrations", [])):
            self._write(f"tasks/{which}", self.run.tasks(which), [(r, Kept([r])) for r in rows])
        rejected = PartWriter(self.run.tasks("rejected"), self.run.tasks("rejected"), "00000")
        rejected.add(
            Row("bad-line-of-the-file", {"where": "tasks.jsonl:9"}),
            Failed("bad_row", "tasks.jsonl:9: no question", '{"x": 1}'),
        )
        rejected.flush()
        Manifest(
            stage="tasks",
            round=0,
            method="jsonl",
            fingerprint="f",
            rows_in=4,
            rows_done=3,
            rows_failed={"bad_row": 1},
            rows_out=3,
            parts=self._entries(self.run.tasks("train")),
        ).write(self.run.path("tasks"))

    def _generate(self, round_: int, unfinished: bool = False) -> None:
        folder = self.run.stage(round_, "generate")
        files.write_json(files.join(folder, "fingerprint.json"), {})
        log = RequestLogWriter(files.join(folder, "requests"), "00000")
        outcomes: list[tuple[Row, Outcome]] = []
        for task in self.tasks[: 1 if unfinished else None]:
            texts = ANSWERS[task.id[:2]]
            log.append(record(task.id, task.payload["question"], texts))
            rows = [
                task.child(
                    "generate", i, sample=i, model=MODEL, text=t, finish_reason="stop", completion_tokens=5
                )
                for i, t in enumerate(texts)
            ]
            self.generated |= {(task.id[:2], i): r for i, r in enumerate(rows)}
            outcomes.append((task, Kept(rows)))
        if unfinished:
            log.append(record(self.tasks[1].id, "Question t2?", ["asked, but not finished"]))
        log.close()
        if unfinished:
            with open(f"{folder}/requests/00000.jsonl", "ab") as f:
                f.write(b'{"key":"torn","row":"' + self.tasks[2].id.encode())
        self._write("generate", folder, outcomes, round_=round_, tokens=5, manifest=not unfinished)

    def _filter(self) -> None:
        outcomes: list[tuple[Row, Outcome]] = []
        for row in self.generated.values():
            text = row.payload["text"]
            outcomes.append(
                (
                    row,
                    Kept([row.child("filter", 0)])
                    if text
                    else Dropped("empty_answer", "the text is blank", text),
                )
            )
        self._write("filter", self.run.stage(1, "filter"), outcomes)

    def _verify(self) -> None:
        """A stage with a step over all rows: its function's rows are in rows/, the step's beside it."""
        folder, outcomes = self.run.stage(1, "verify"), []
        voted = [
            r.child("filter", 0).child(
                "verify", 0, verdict={"correct": True, "extracted": "4", "problem": "", "score": None}
            )
            for r in self.generated.values()
            if r.payload["text"]
        ]
        for row in self.generated.values():
            child = row.child("filter", 0)
            if row.payload["text"] == HOSTILE:
                outcomes.append(
                    (
                        child,
                        Dropped(
                            "wrong_answer",
                            f"extracted {HOSTILE[:40]!r}, [red]expected[/red] 4 \x1b]0;title\x07",
                            HOSTILE,
                        ),
                    )
                )
            elif row.payload["text"] == "Answer: 7":
                outcomes.append((child, Failed("ValueError", "boom (verifiers.py:1)", "raw reply")))
            elif row.payload["text"]:
                outcomes.append((child, Kept([v for v in voted if v.parents == [child.id]])))
        kept = [r for _, o in outcomes if isinstance(o, Kept) for r in o.rows]
        steps = PartWriter(folder, folder, "step-0")
        for row in kept:
            steps.add(
                row,
                Dropped("minority", "outvoted", row.payload["text"])
                if row.payload["text"].startswith("Answer")
                else Kept([row]),
            )
        self._write(
            "verify",
            folder,
            outcomes,
            rows_folder=files.join(folder, "rows"),
            steps=steps,
            entry=StepEntry(name="majority_vote", rows_in=3, rows_out=1, dropped={"minority": 2}),
        )

    def _publish(self) -> None:
        folder = self.run.stage(1, "publish")
        rows = list(self.run.rows(self.run.stage(1, "verify")))
        steps = PartWriter(folder, folder, "step-0")
        for row in rows:
            steps.add(row, Kept([row]))
        steps.flush()
        Manifest(
            stage="publish",
            round=1,
            method="direct",
            fingerprint="f",
            rows_in=1,
            rows_done=1,
            rows_out=1,
            parts=self._entries(folder),
            steps=[StepEntry(name="exact_duplicates", rows_in=1, rows_out=1)],
        ).write(folder)
        examples = [
            SFT.row(
                Lineage(
                    row_id=f"{r.id}{suffix}",
                    parent_ids=r.parents,
                    task_id=r.payload["task_id"],
                    kind="synthetic",
                    round=1,
                    method="direct",
                ),
                prompt=[{"role": "user", "content": r.payload["question"]}],
                completion=[{"role": "assistant", "content": r.payload["text"]}],
            )
            for r in rows
            for suffix in ("", "-1")
        ]
        publish(examples, self.run.dataset("sft", 1), CardFacts("small", "direct", MODEL, 1), 0)

    def _pass_through(self, stage: str, of: str) -> None:
        before = self.run.manifest(self.run.stage(1, of))
        Manifest(
            stage=stage,
            round=1,
            method="direct",
            fingerprint="f",
            rows_in=before.rows_out,
            rows_done=before.rows_out,
            rows_out=before.rows_out,
            parts=before.parts,
            passes_through=of,
        ).write(self.run.stage(1, stage))

    def _write(
        self,
        stage: str,
        folder: str,
        outcomes: list[tuple[Row, Outcome]],
        *,
        rows_folder: str = "",
        round_: int = 1,
        tokens: int = 0,
        steps: PartWriter | None = None,
        entry: StepEntry | None = None,
        manifest: bool = True,
    ) -> None:
        out = PartWriter(rows_folder or folder, folder, "00000")
        for i, (row, outcome) in enumerate(outcomes):
            out.add(
                row, outcome, Counts(prompt_tokens=tokens, completion_tokens=2 * tokens, sent=bool(tokens))
            )
            if i % 2:
                out.flush()
        out.flush()
        if steps:
            steps.flush()
        if not manifest:
            return
        total = Counts()
        for part in parts.committed(rows_folder or folder):
            total.add(part.counts)
        entries = self._entries(folder)
        Manifest(
            stage=stage,
            round=round_,
            method="direct",
            fingerprint="f",
            rows_in=len(outcomes),
            rows_done=total.done,
            rows_dropped=total.dropped,
            rows_failed=total.failed,
            rows_out=sum(e.rows for e in entries),
            parts=entries,
            seconds=1.5,
            steps=[entry] if entry else [],
            tokens=Tokens(prompt=total.prompt_tokens, completion=total.completion_tokens),
            requests=Requests(sent=total.sent),
        ).write(folder)

    def _entries(self, folder: str) -> list[PartEntry]:
        paths = files.glob(folder, "part-*.arrow")
        return [
            PartEntry(
                path=p.removeprefix(self.run.root).lstrip("/"),
                rows=parts.row_count(p),
                sha256=parts.sha256(p),
            )
            for p in paths
        ]


def record(row: str, question: str, texts: list[str]) -> dict[str, Any]:
    """Return a record as a stage worker logs it."""
    return {
        "key": f"key of {row}",
        "row": row,
        "step": "direct/solve",
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "prompt": None,
        "prefill": "Let me think",
        "sampling": Sampling(temperature=0.7, max_tokens=64).as_json,
        "n": len(texts),
        "sample_index": 0,
        "completions": [Completion(t, "stop", 5, 5).to_json() for t in texts],
        "time": 1.0,
        "seconds": 0.25,
    }


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The run. Tests only read it."""
    return Built(tmp_path_factory.mktemp("jobs") / "run [1]")


class Called:
    """What a command printed (`out`: on stdout alone), and its exit status."""

    def __init__(self, result: Any) -> None:
        self.text, self.out, self.status = result.output, result.stdout, result.exit_code


@pytest.fixture
def selfloop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command line in this process: selfloop("inspect", "--run", ...)."""
    from rich.console import Console

    from jobs import showing
    from jobs.cli import app
    from stages.reports import table as report

    monkeypatch.setenv("RAY_ADDRESS", "")
    plain = Console(highlight=False, soft_wrap=True, width=150)  # writes to what stdout is at the time
    for module in (showing, report):
        monkeypatch.setattr(module, "console", plain)
    import jobs.rendering

    monkeypatch.setattr(jobs.rendering, "console", plain)

    def call(*arguments: str) -> Called:
        return Called(CliRunner().invoke(app, [str(a) for a in arguments]))

    return call


def assert_safe(text: str) -> None:
    """Assert that no character could steer the terminal."""
    assert not [
        c
        for c in text
        if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u2028"
    ]
