"""Progress of a training: a JSON line per logging step, for the display, the loss curve and resumed runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.store.files import atomic_write
from pipeline.train_log import Line, cut_torn_line, read_progress

__all__ = ["Line", "ProgressWriter", "cut_torn_line", "draw_loss", "following", "read_progress"]

REWARDS = ("rewards/margins", "rewards/accuracies")  # what DPO (KTO: the former) reports beside its loss
_POLL_SECONDS = 0.5


class ProgressWriter(TrainerCallback):
    """Appends a line (see on_log) to `path` at every logging step.

    With DPO also REWARDS: the margin between the implicit rewards of chosen and rejected answers, and how
    often it is positive; with KTO the margin between the means of right and wrong answers. `tokens` and
    `seconds` add up over resumed runs; steps lost in a kill appear again.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.tokens_before, self.seconds_before = 0, 0.0
        self.began = self.logged = time.monotonic()
        self.tokens_logged = 0
        self.note = ""  # what the next line has to tell people

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Continue the counts of the step that the run resumes from."""
        if done := [line for line in read_progress(self.path) if line["step"] <= state.global_step]:
            self.tokens_before, self.seconds_before = done[-1]["tokens"], done[-1]["seconds"]
        self.began = self.logged = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Log the last step whatever logging_steps is: train.json takes its totals from the last line."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Line | None = None,
        **kwargs: object,
    ) -> None:
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        now, seen = time.monotonic(), int(logs.get("num_tokens", 0))
        line = {
            "step": state.global_step,
            "total": state.max_steps,
            "epoch": round(state.epoch or 0.0, 4),
            "loss": logs["loss"],
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": logs.get("grad_norm"),
            "tokens": self.tokens_before + seen,
            "seconds": round(self.seconds_before + now - self.began, 3),
            "tokens_per_second": round((seen - self.tokens_logged) / max(now - self.logged, 1e-6), 1),
            **{name: logs[name] for name in REWARDS if name in logs},
            **({"note": self.note} if self.note else {}),
        }
        with open(self.path, "ab") as f:
            f.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self.logged, self.tokens_logged, self.note = now, seen, ""


@contextmanager
def following(path: str | Path, tell: Callable[[Line], None] | None) -> Iterator[None]:
    """Call `tell`, from a thread, with every line appended to `path` while the block runs."""
    if tell is None:
        yield
        return
    done, path = threading.Event(), Path(path)
    start = path.stat().st_size if path.exists() else 0
    thread = threading.Thread(target=_follow, args=(path, start, tell, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(path: Path, at: int, tell: Callable[[Line], None], done: threading.Event) -> None:
    finished = False
    while not finished:
        finished = done.wait(_POLL_SECONDS)  # one last look after the block ends
        if not path.exists():
            continue
        with open(path, "rb") as f:
            f.seek(at)
            whole, newline, _ = f.read().rpartition(b"\n")
        at += len(whole) + len(newline)
        for text in whole.splitlines():
            tell(orjson.loads(text))


def draw_loss(lines: list[Line], target: str | Path, title: str) -> None:
    """Write the loss curve as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    steps, margins = [line["step"] for line in lines], [line.get(REWARDS[0]) for line in lines]
    rewarded, marker = any(margin is not None for margin in margins), "." if len(lines) < 50 else None
    label = "preference loss" if rewarded else "loss per completion token"
    axes = figure.add_subplot(xlabel="optimizer step", ylabel=label, title=title)
    axes.plot(steps, [line["loss"] for line in lines], marker=marker)
    if rewarded:
        other = axes.twinx()
        other.set_ylabel("reward margin (dashed)")
        other.plot(steps, margins, "--", color="C1", marker=marker)
    axes.grid(alpha=0.3)
    with atomic_write(str(target)) as f:
        figure.savefig(f, format="png", dpi=120)
