"""Progress lines.

Of repeated steps the last counts, a torn line does not, and a follower sees each line once.
"""

import time

import orjson
from transformers import TrainerControl, TrainerState

from pipeline.training.progress import (
    ProgressWriter,
    cut_torn_line,
    draw_loss,
    following,
    read_progress,
)


def line(step: int, loss: float = 1.0) -> dict:
    return {
        "step": step,
        "total": 9,
        "epoch": 0.5,
        "loss": loss,
        "tokens": step * 10,
        "seconds": 1.0,
        "tokens_per_second": 10.0,
    }


def test_steps_done_again_replace_those_that_were_lost(tmp_path):
    path = tmp_path / "progress.jsonl"
    path.write_bytes(
        b"".join(orjson.dumps(line(*a)) + b"\n" for a in [(1, 5.0), (2, 4.0), (3, 3.0), (2, 4.5), (3, 3.5)])
        + b'{"step": 4, "lo'
    )
    assert [(entry["step"], entry["loss"]) for entry in read_progress(path)] == [(1, 5.0), (2, 4.5), (3, 3.5)]
    cut_torn_line(path)
    assert path.read_bytes().endswith(b"}\n") and len(path.read_bytes().splitlines()) == 5
    assert read_progress(tmp_path / "none") == []


def test_steps_beyond_the_resumed_ones_are_void(tmp_path):
    path = tmp_path / "progress.jsonl"
    path.write_bytes(b"".join(orjson.dumps(line(step)) + b"\n" for step in (1, 2, 3, 4, 2)))
    assert [entry["step"] for entry in read_progress(path)] == [1, 2]


def test_a_follower_sees_what_is_appended(tmp_path):
    path, seen = tmp_path / "progress.jsonl", []
    path.write_bytes(orjson.dumps(line(1)) + b"\n")
    with following(path, seen.append):
        for step in (2, 3):
            whole = orjson.dumps(line(step)) + b"\n"
            with open(path, "ab") as f:
                f.write(whole[:20])
                f.flush()
                time.sleep(0.7)
                f.write(whole[20:])
    assert [entry["step"] for entry in seen] == [2, 3]


def test_the_last_step_is_logged_whatever_the_interval(tmp_path):
    control = TrainerControl()
    for step, logged in ((798, False), (799, True)):
        ProgressWriter(str(tmp_path / "p")).on_step_end(
            None, TrainerState(global_step=step, max_steps=799), control
        )
        assert control.should_log is logged


def test_the_curve_is_a_picture_even_without_lines(tmp_path):
    draw_loss([], tmp_path / "loss.png", "empty")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
