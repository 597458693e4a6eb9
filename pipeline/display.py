"""What a person sees while a stage runs: a live line in a terminal, plain lines elsewhere, counts and examples at the end."""

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline import examples
from pipeline.engines.base import EngineStatus
from pipeline.printable import one_line
from pipeline.store.manifest import Manifest
from pipeline.store.parts import Counts

if TYPE_CHECKING:
    from pipeline.rundir import RunDir
    from pipeline.training import TrainResult

PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal
EXAMPLES = 3
LOOK_AT = 1000  # rows among which they are chosen

# Where there is no terminal (a file, `ray job logs`) nothing says how wide a line may be: wide enough for the table over rounds.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 150)


def round_title(round_: int | str) -> str:
    """Return how a round is called."""
    return "base model" if round_ == "base" else f"round {round_}"


class StageDisplay:
    """Shows one stage. Everything a model wrote is escaped: it must not be read as markup."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._began = self._last = time.monotonic()
        self._before: Counts | None = None
        self._bar: Bar | None = None
        if console.is_terminal and total:
            self._bar = Bar(
                TextColumn("[bold]{task.description}"),
                BarColumn(20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[info]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total, info="")
            self._bar.start()

    def update(self, counts: Counts, queue: EngineStatus, requests: int = 0, tokens: int = 0) -> None:
        """Show how far the stage is. `requests` and `tokens` are those that its workers have got answered: a row may take many."""
        if self._before is None:
            self._before = Counts()
            self._before.add(counts)
        info = self._info(counts, queue, requests, tokens)
        if self._bar:
            self._bar.update(self._task, completed=counts.rows_in, info=info)
        elif time.monotonic() - self._last >= PLAIN_EVERY:
            self._last = time.monotonic()
            console.print(f"  {self._title}: {counts.rows_in}/{self._total} rows, {info}{self._eta(counts)}")

    def note(self, text: str) -> None:
        """Say something in between."""
        console.print(f"  {self._title}: {escape(text)}")

    def stop(self) -> None:
        """Take the live line away."""
        if self._bar:
            self._bar.stop()

    def close(self, manifest: Manifest, run: "RunDir") -> None:
        """Print the stage's counts, and examples of what was dropped and failed."""
        self.stop()
        console.print(summary(manifest), markup=False)
        if note := manifest.extra.get("note"):
            console.print(f"    {note}", markup=False)
        for kind in ("dropped", "failed"):
            found = examples.rejects(
                run.stage(manifest.round, manifest.stage), kind, EXAMPLES, look_at=LOOK_AT
            )
            for reject in examples.mixed(found, EXAMPLES):
                raw = f" | {one_line(reject['raw'], 100)}" if reject["raw"] else ""
                console.print(
                    f"    {kind} {reject['reason']}: {one_line(reject['detail'], 120)}{raw}", markup=False
                )

    def _info(self, counts: Counts, queue: EngineStatus, requests: int, tokens: int) -> str:
        rate = tokens / max(time.monotonic() - self._began, 1e-6)
        several = (
            f"{requests:,} requests answered, "
            if requests >= 2 * max(1, counts.rows_in - self._before.rows_in)
            else ""
        )
        judged = counts.done + sum(counts.dropped.values())
        kept = f", kept {counts.done / judged:.0%}" if judged and counts.dropped else ""
        failed = f", failed {sum(counts.failed.values())}" if counts.failed else ""
        return (
            f"{several}{rate:.0f} tok/s, {queue.running} running, {queue.waiting} waiting{kept}{failed}"
            if rate or queue.running
            else f"{kept}{failed}".strip(", ")
        )

    def _eta(self, counts: Counts) -> str:
        done = counts.rows_in - self._before.rows_in
        left = (time.monotonic() - self._began) / done * (self._total - counts.rows_in) if done else 0
        return f", about {left:.0f} s left" if left else ""


def summary(m: Manifest) -> str:
    """Return one line with a stage's counts."""
    if m.passes_through:
        return (
            f"{round_title(m.round)}, {m.stage}: nothing to do for {m.method}; {m.rows_out} rows pass through"
        )
    text = f"{round_title(m.round)}, {m.stage}: {m.rows_in} in = {m.rows_done} done + {sum(m.rows_dropped.values())} dropped + {sum(m.rows_failed.values())} failed"
    for step in m.steps:
        if step.dropped:
            text += f"; {step.name} dropped {sum(step.dropped.values())}"
    text += f"; {m.rows_out} rows out, {m.seconds:.1f} s"
    if m.tokens.completion:
        text += f", {m.tokens.completion} tokens ({m.tokens.completion / max(m.seconds, 1e-6):.0f} tok/s)"
    if cache := m.extra.get("prefix_cache"):
        text += f", {cache['found'] / cache['looked_up']:.0%} of prompt tokens from the prefix cache"
    if m.requests.from_log:
        text += f", {m.requests.from_log} of {m.requests.sent + m.requests.from_log} requests from the log"
    reasons = ", ".join(
        f"{k} {v}" for k, v in sorted({**m.dropped_in_all(), **m.rows_failed}.items(), key=lambda kv: -kv[1])
    )
    return text + (f"\n    {reasons}" if reasons else "")


def rewards(line: dict[str, Any] | None) -> str:
    """Return DPO's reward margin and accuracy as the end of a phrase; "" where there are none."""
    if not line or "rewards/margins" not in line:
        return ""
    return f", reward margin {line['rewards/margins']:.3f} (right for {line['rewards/accuracies']:.0%})"


def seen_as(kind: str) -> str:
    """Return what a trainer's examples are called, by the name of the dataset's kind."""
    from pipeline.publish.kinds import KINDS  # here: it takes a second, which other output need not wait

    return KINDS[kind].seen


class TrainDisplay:
    """Shows one training from its progress lines (pipeline.training.progress)."""

    def __init__(self, title: str) -> None:
        self._title, self._last = title, 0.0
        self._status = console.status(f"{title}: starting") if console.is_terminal else None
        if self._status:
            self._status.start()

    def update(self, line: dict[str, Any]) -> None:
        """Show one progress line."""
        left = (line["total"] - line["step"]) * line["seconds"] / max(1, line["step"])
        text = f"{self._title}: step {line['step']}/{line['total']}, loss {line['loss']:.3f}{rewards(line)}, {line['tokens_per_second']:.0f} tok/s, about {left:.0f} s left"
        if self._status:
            self._status.update(escape(text))
        elif time.monotonic() - self._last >= PLAIN_EVERY:
            self._last = time.monotonic()
            console.print(f"  {text}", markup=False)

    def close(self, result: "TrainResult") -> None:
        """Print what came out."""
        if self._status:
            self._status.stop()
        loss = f", final loss {result.final_loss:.3f}" if result.final_loss is not None else ""
        cut = f", {result.left_out} longer than max_length left out" if result.left_out else ""
        console.print(
            f"{self._title}: {result.examples} {seen_as(result.kind)} ({result.shares['real']} real + {result.shares['synthetic']} synthetic){cut}, "
            f"{result.steps} steps{loss}{rewards(result.rewards)}, {result.seconds:.1f} s, {result.tokens} tokens ({result.tokens_per_second:.0f} tok/s)",
            markup=False,
        )
