"""Progress of stages and trainings: a live line in a terminal, else plain lines, and a summary."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline import loop_display, sample_rows
from pipeline.console import progress as console
from pipeline.engines.base import EngineStatus
from pipeline.printable import one_line
from pipeline.publish.kinds import KINDS
from pipeline.rundir import RunDir
from pipeline.store.manifest import Manifest
from pipeline.store.parts import Counts

if TYPE_CHECKING:
    from pipeline.training import TrainResult  # importing it takes a second

PLAIN_EVERY = 15.0  # seconds between lines without a terminal
REJECTS = 3
LOOK_AT = 1000  # rejects to choose from


def round_title(round_: int | str) -> str:
    """Return what a round is called."""
    return "base model" if round_ == "base" else f"round {round_}"


class Bar(Progress):
    """The live line of a stage or training, below the whole loop where `iterate` shows that."""

    def __init__(self, title: str, total: int | None, info: str = "") -> None:
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        super().__init__(*columns, console=console, transient=True)
        self._task = self.add_task(title, total=total, info=info)
        self.start()

    def show(self, **values: Any) -> None:
        """Show how far it is: `completed`, `total`, `info`."""
        self.update(self._task, **values)

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the loop, then the line itself."""
        if loop := loop_display.current:
            if loop.fits(console.width):
                yield loop.table()
            yield f"[dim]{loop.line()}[/]"
        yield from super().get_renderables()


def _begin(title: str) -> None:
    """Note that a part of the loop begins; without a terminal, say where that is in the loop."""
    if loop := loop_display.current:
        loop.refresh()
        if not console.is_terminal:
            console.print(f"{title}: {loop.line()}", markup=False, style="dim")


class StageDisplay:
    """Shows one stage. Model-written text is escaped, so that it is never read as markup."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._began = self._last = time.monotonic()
        self._before: Counts | None = None  # what earlier attempts did
        self._bar: Bar | None = None
        _begin(title)
        if console.is_terminal and total:
            self._bar = Bar(title, total)

    def update(self, counts: Counts, queue: EngineStatus, requests: int = 0, tokens: int = 0) -> None:
        """Show progress; `requests` and `tokens` count what the workers got answered: a row may take many."""
        if self._before is None:
            self._before = Counts()
            self._before.add(counts)
        new_rows = counts.rows_in - self._before.rows_in
        info = self._info(counts, queue, requests if requests >= 2 * max(1, new_rows) else 0, tokens)
        if self._bar:
            self._bar.show(completed=counts.rows_in, info=info)
        elif (now := time.monotonic()) - self._last >= PLAIN_EVERY:
            self._last = now
            left = (now - self._began) / new_rows * (self._total - counts.rows_in) if new_rows else 0
            eta = f", about {left:.0f} s left" if left else ""
            console.print(f"  {self._title}: {counts.rows_in}/{self._total} rows, {info}{eta}")

    def note(self, text: str) -> None:
        """Print a line between progress updates."""
        console.print(f"  {self._title}: {escape(text)}")

    def stop(self) -> None:
        """Remove the live line."""
        if self._bar:
            self._bar.stop()

    def close(self, manifest: Manifest, run: RunDir) -> None:
        """Print the stage's counts and a few of its rejects."""
        self.stop()
        console.print(summary(manifest), markup=False)
        if note := manifest.extra.get("note"):
            console.print(f"    {note}", markup=False)
        folder = run.stage(manifest.round, manifest.stage)
        for kind in ("dropped", "failed"):
            by_reason = sample_rows.rejects(folder, kind, REJECTS, look_at=LOOK_AT)
            for reject in sample_rows.mixed(by_reason, REJECTS):
                raw = f" | {one_line(reject['raw'], 100)}" if reject["raw"] else ""
                text = f"    {kind} {reject['reason']}: {one_line(reject['detail'], 120)}{raw}"
                console.print(text, markup=False)

    def _info(self, counts: Counts, queue: EngineStatus, requests: int, tokens: int) -> str:
        rate = tokens / max(time.monotonic() - self._began, 1e-6)
        judged = counts.done + sum(counts.dropped.values())
        kept = f", kept {counts.done / judged:.0%}" if judged and counts.dropped else ""
        outcomes = kept + (f", failed {sum(counts.failed.values())}" if counts.failed else "")
        if not rate and not queue.running:
            return outcomes.strip(", ")
        answered = f"{requests:,} requests answered, " if requests else ""
        return f"{answered}{rate:.0f} tok/s, {queue.running} running, {queue.waiting} waiting{outcomes}"


def summary(m: Manifest) -> str:
    """Return a stage's counts in one line, its reject reasons in a second."""
    title = f"{round_title(m.round)}, {m.stage}"
    if m.passes_through:
        return f"{title}: nothing to do for {m.method}; {m.rows_out} rows pass through"
    dropped, failed = sum(m.rows_dropped.values()), sum(m.rows_failed.values())
    text = f"{title}: {m.rows_in} in = {m.rows_done} done + {dropped} dropped + {failed} failed"
    for step in m.steps:
        if step.dropped:
            text += f"; {step.name} dropped {sum(step.dropped.values())}"
    text += f"; {m.rows_out} rows out, {m.seconds:.1f} s"
    if tokens := m.tokens.completion:
        asked = m.seconds >= 0.1  # else everything was there already
        text += f", {tokens} tokens" + (f" ({tokens / m.seconds:.0f} tok/s)" if asked else "")
    if cache := m.extra.get("prefix_cache"):
        text += f", {cache['found'] / cache['looked_up']:.0%} of prompt tokens from the prefix cache"
    if m.requests.from_log:
        text += f", {m.requests.from_log} of {m.requests.sent + m.requests.from_log} requests from the log"
    reasons = sorted({**m.dropped_in_all(), **m.rows_failed}.items(), key=lambda item: -item[1])
    return text + ("\n    " + ", ".join(f"{reason} {n}" for reason, n in reasons) if reasons else "")


def rewards(line: dict[str, Any] | None) -> str:
    """Return the reward margin of DPO or KTO, and DPO's accuracy, as the end of a phrase; "" without any."""
    if not line or "rewards/margins" not in line:
        return ""
    accuracy = line.get("rewards/accuracies")
    return f", reward margin {line['rewards/margins']:.3f}" + (
        "" if accuracy is None else f" (right for {accuracy:.0%})"
    )


def seen_as(kind: str) -> str:
    """Return what the trainer's examples are called for a kind of dataset, such as "pairs"."""
    return KINDS[kind].seen


class TrainDisplay:
    """Shows one training from its progress lines (pipeline.training.progress)."""

    def __init__(self, title: str) -> None:
        self._title, self._last = title, 0.0
        _begin(title)
        self._bar = Bar(title, None, "starting") if console.is_terminal else None

    def update(self, line: dict[str, Any]) -> None:
        """Show one progress line."""
        if note := line.get("note"):
            console.print(f"  {self._title}: {note}", markup=False)
        info = f"loss {line['loss']:.3f}{rewards(line)}, {line['tokens_per_second']:.0f} tok/s"
        if self._bar:
            self._bar.show(completed=line["step"], total=line["total"], info=escape(info))
        elif time.monotonic() - self._last >= PLAIN_EVERY:
            self._last = time.monotonic()
            left = (line["total"] - line["step"]) * line["seconds"] / max(1, line["step"])
            step = f"step {line['step']}/{line['total']}"
            console.print(f"  {self._title}: {step}, {info}, about {left:.0f} s left", markup=False)

    def stop(self) -> None:
        """Remove the live line."""
        if self._bar:
            self._bar.stop()

    def close(self, result: "TrainResult") -> None:
        """Print the result."""
        self.stop()
        shares = f"{result.shares['real']} real + {result.shares['synthetic']} synthetic"
        cut = f", {result.left_out} longer than max_length left out" if result.left_out else ""
        loss = f", final loss {result.final_loss:.3f}" if result.final_loss is not None else ""
        text = (
            f"{self._title}: {result.examples} {seen_as(result.kind)} ({shares}){cut}, {result.steps} steps"
            f"{loss}{rewards(result.rewards)}, {result.seconds:.1f} s, {result.tokens} tokens "
            f"({result.tokens_per_second:.0f} tok/s)"
        )
        console.print(text, markup=False)
