"""The display of the whole loop: what is done, under way and to come, in a terminal and in plain lines."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import display, loop_display
from pipeline.engines.base import EngineStatus
from pipeline.rundir import RunDir
from pipeline.store import files
from pipeline.store.parts import Counts
from tests.jobs.conftest import Built, built

__all__ = ["built"]
ROUND = ["generate", "critique", "filter", "verify", "publish", "train", "evaluate"]


def text_of(renderable: object) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=150).print(renderable)
    return [re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines()]


def test_parts_are_done_under_way_and_to_come(built: Built):
    loop = loop_display.LoopDisplay(built.run)
    assert [p.stage for p in loop.parts] == ROUND * 2
    assert (loop.current.round, loop.current.stage) == (1, "train")
    header, first, second = text_of(loop.table())
    assert header == ["round", *ROUND]
    assert first == ["1", "2 s", "0 s", "2 s", "2 s", "0 s", "under way", "to come"]
    assert second == ["2", *["to come"] * 7]
    assert loop.line() == "part 6 of 14" and loop.left() is None  # no round has trained


def test_the_rest_takes_what_it_took_before(built: Built, monkeypatch):
    took = {"generate": 60.0, "verify": 30.0, "train": 600.0}
    done = [loop_display.Part(1, stage, seconds) for stage, seconds in took.items()]
    monkeypatch.setattr(
        loop_display, "parts", lambda run: [*done, *(p._replace(round=2, seconds=None) for p in done)]
    )
    loop = loop_display.LoopDisplay(built.run)
    assert loop.line() == "part 4 of 6, about 11 min left in all"
    loop._began -= 45  # 45 s of the 60 that generate took
    assert loop.left() == pytest.approx(645, abs=2)


def test_many_rounds_and_narrow_terminals(built: Built, monkeypatch):
    rounds = [loop_display.Part(r, "generate", 1.0 if r < 50 else None) for r in range(1, 100)]
    monkeypatch.setattr(loop_display, "parts", lambda run: rounds)
    loop = loop_display.LoopDisplay(built.run)
    assert [row[0] for row in text_of(loop.table())[1:]] == ["47", "48", "49", "50", "51", "52", "53"]
    assert loop.fits(80) and not loop.fits(10)


@pytest.mark.parametrize("terminal", [True, False])
def test_stages_show_where_they_are_in_the_loop(built: Built, monkeypatch, terminal: bool):
    out = io.StringIO()
    monkeypatch.setattr(display, "console", Console(file=out, force_terminal=terminal, width=150))
    with loop_display.shown(built.run):
        stage = display.StageDisplay("round 1, verify", 10)
        stage.update(Counts(done=5), EngineStatus(1, 0))
        stage.stop()
        training = display.TrainDisplay("round 1, train")
        training.stop()
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "part 6 of 14" in printed and ("under way" in printed) == terminal
    before = printed.count("part 6 of 14")
    assert before >= 2 and loop_display.current is None
    display.StageDisplay("round 1, verify", 10).stop()
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).count("part 6 of 14") == before


def test_a_finished_run_has_nothing_left(built: Built, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(loop_display, "parts", lambda run: [loop_display.Part(1, "generate", 1.0)])
    loop = loop_display.LoopDisplay(RunDir(tmp_path))
    assert loop.line() == "part 1 of 1" and len(text_of(loop.table())) == 2
    assert not files.exists(str(tmp_path / "rounds"))
