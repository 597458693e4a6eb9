"""Arenas on a tiny model: what arms share, what they compare, and how they go on after a stop."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline import fingerprint, sharing
from pipeline.errors import ConfigError, SelfloopError, StaleError
from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from pipeline.sharing import taken_over
from pipeline.store.lock import run_lock
from stages.arena import equal
from stages.arena.lineup import Lineup
from stages.reports.arena_tables import markdown, show
from tests.faults.driver import logged
from tests.stages.arena.arenas import arena_in, asked, lineup, make, trained
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]

POLICIES = {
    "all": None,
    "window": {"accumulate.policy": "window:1"},
    "replace": {"accumulate.policy": "replace", "accumulate.keep_real": False},
}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path
) -> tuple[Lineup, dict[str, Any], Path]:
    """Three policies over one round."""
    path = arena_in(tmp_path_factory.mktemp("arena"), tiny_model, POLICIES, equal="steps")
    outcome, found = make(path)
    assert outcome == ("", {})
    return lineup(path), found, path


def test_arms_share_what_they_have_in_common(finished: tuple[Lineup, dict[str, Any], Path]) -> None:
    """The untrained model, round 0 and round 1's samples are everyone's; window trains on what all does."""
    line, _, _ = finished
    runs = line.everything()
    sent = asked(runs)
    assert len(sent) == len(set(sent)), "no request is sent twice"
    counts = {stage: sum(s == stage for s, _ in sent) for stage, _ in sent}
    assert counts == {
        "base/evaluate": 20,
        "000/evaluate": 20,
        "001/generate": 12,
        "001/evaluate": 40,  # all with window, replace
    }
    assert trained(runs) == [
        "all/seed-0/rounds/000",
        "all/seed-0/rounds/001",
        "replace/seed-0/rounds/001",
    ]
    all_, window = line.run("all", 0), line.run("window", 0)
    assert taken_over(window.stage(1, "train")) and not taken_over(window.stage(1, "publish"))
    one, other = (Path(run.model(1), "model.safetensors").stat() for run in (all_, window))
    assert one.st_ino == other.st_ino, "hard-linked"


def test_the_results_say_who_is_better_at_what_cost(
    finished: tuple[Lineup, dict[str, Any], Path], capsys: Any
) -> None:
    line, found, _ = finished
    assert json.loads((line.folder / "arena.json").read_text())["comparisons"] == found["comparisons"]
    assert found["compared"] == {"round": 1, "seeds": [0]} and found["control"] == "all"
    by_arm = {arm["arm"]: arm for arm in found["arms"]}
    assert list(by_arm) == ["all", "window", "replace"]
    control = by_arm["all"]
    run = line.run("all", 0)
    tokens = run.manifest(run.stage(1, "generate")).tokens.completion
    assert control["costs"]["sampled_tokens"] == tokens > 0 and control["costs"]["steps"] == 2
    assert by_arm["window"]["ratios"]["steps"] == 1 and not by_arm["window"]["unequal"]
    accuracy = [json.loads(Path(run.evaluation(r)).read_text())["greedy"]["mean"] for r in (0, 1)]
    assert [r["accuracy"] for r in control["by_round"]] == accuracy
    pairs = [(c["arm"], c["against"]) for c in found["comparisons"]]
    assert pairs == [("window", "all"), ("replace", "all"), ("replace", "window")]
    for one in found["comparisons"]:
        ends = [by_arm[one[k]]["by_round"][-1]["accuracy"] for k in ("arm", "against")]
        assert one["mean"] == pytest.approx(ends[0] - ends[1]) and one["p"] <= one["p_holm"] <= 1
    show(found)
    printed = capsys.readouterr().out
    assert "test: held-out accuracy, seed 0" in printed and "what round 1 took" in printed
    written = (line.folder / "arena.md").read_text()
    assert "| replace | window |" in written and "(arena.png)" in written
    assert (line.folder / "arena.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_finds_everything_done(finished: tuple[Lineup, dict[str, Any], Path]) -> None:
    line, found, path = finished
    before = {
        p: p.stat().st_mtime_ns
        for p in line.folder.rglob("*.json")
        if p.parent.name not in ("arena", "evaluation")
    }
    outcome, again = make(path)
    after = {
        p: p.stat().st_mtime_ns
        for p in line.folder.rglob("*.json")
        if p.parent.name not in ("arena", "evaluation")
    }
    assert outcome == ("", {}) and after == before
    assert again["comparisons"] == found["comparisons"]
    assert again["spent"]["sampled_tokens"] == found["spent"]["sampled_tokens"]
    with pytest.raises(StaleError, match=r"arm 'window', seed 0(.|\n)*policy(.|\n)*another name"):
        make(path, "arms={all: {}, window: {accumulate.policy: 'window:2'}}")


def test_a_budget_stops_it_and_more_of_it_goes_on(tmp_path: Path, tiny_model: Path, in_process: None) -> None:
    arms = {
        "two": {"method": {"name": "direct", "samples": 2}},
        "one": {"method": {"name": "direct", "samples": 1}},
    }
    path = arena_in(tmp_path, tiny_model, arms, recipe={"demonstrations": None})
    outcome, found = make(path, "budget.sampled_tokens=1")
    assert "sampled_tokens: 1 are used up" in outcome.stopped
    assert outcome.stopped.endswith("stopped before generate of round 1 of two, seed 0")
    assert found["arms"] == [] and "Nothing to compare yet" in markdown(found, False)
    first = asked(lineup(path).everything())
    assert {stage for stage, _ in first} == {"base/evaluate"}
    outcome, _ = make(path, f"budget.sampled_tokens={found['spent']['sampled_tokens'] + 1}")
    assert outcome.stopped.endswith("stopped before critique of round 1 of two, seed 0")
    sent = asked(lineup(path).everything())
    assert sorted(set(sent)) == sorted(sent) and len(sent) == len(first) + 12
    assert make(path, "budget.hours=0.0000001")[0].stopped.startswith("budget.hours")


def test_a_run_that_fails_does_not_keep_the_others(finished: tuple[Lineup, dict[str, Any], Path]) -> None:
    """An arm that keeps no row and has no real data cannot train. It joins late, and asks nothing anew."""
    _, before, path = finished
    empty = "{filters.min_tokens: 500, accumulate.policy: replace, accumulate.keep_real: false}"
    outcome, found = make(path, f"arms.empty={empty}")
    assert list(outcome.failed) == ["empty, seed 0"] and "all of 0" not in outcome.failed["empty, seed 0"]
    assert [arm["arm"] for arm in found["arms"]] == list(POLICIES) and len(found["comparisons"]) == 3
    assert found["spent"]["sampled_tokens"] == before["spent"]["sampled_tokens"]
    written = markdown(found, False)
    assert (
        "Failed: empty, seed 0" in written and "Without empty: no round of theirs is finished yet." in written
    )


def test_arms_must_be_asked_the_same_questions(tmp_path: Path, tiny_model: Path) -> None:
    path = arena_in(tmp_path, tiny_model, {"a": None, "b": {"held_out.count": 10}})
    with pytest.raises(ConfigError, match="'a' and 'b' are evaluated on different questions"):
        make(path)


def test_two_drivers_are_one_too_many(tmp_path: Path, tiny_model: Path) -> None:
    path = arena_in(tmp_path, tiny_model, {"a": None, "b": None})
    with run_lock(tmp_path / "arena"), pytest.raises(SelfloopError, match="in use by process"):
        make(path)


def test_seeds_may_be_made_by_different_commands(tmp_path: Path, tiny_model: Path, in_process: None) -> None:
    path = arena_in(tmp_path, tiny_model, {"a": None, "b": None}, seeds=[0, 1])
    with pytest.raises(ConfigError, match=r"--seed 7: the arena's seeds are \[0, 1\]"):
        make(path, seeds=[7])
    other = lineup(path).run("a", 1)
    with run_lock(other.local):  # as a command that makes the runs of seed 1 holds it
        with pytest.raises(SelfloopError, match="in use by process"):
            make(path, seeds=[1])
        outcome, found = make(path, seeds=[0])
    assert outcome == ("", {}) and trained([lineup(path).run("a", 0)]) and not trained([other])
    apart = found["spent"]["hours"]
    outcome, found = make(path, seeds=[1])
    assert outcome == ("", {}) and found["compared"]["seeds"] == [0, 1]
    assert found["spent"]["hours"] > apart and trained([other])


def test_sampled_tokens_are_made_equal_by_a_pilot(tmp_path: Path, tiny_model: Path, in_process: None) -> None:
    """Three samples a question cost three times as much, so a third of the questions are asked."""
    arms = {"one": {"method.samples": 1}, "three": {"method.samples": 3}}
    recipe = {"demonstrations": None, "engine": {"kind": "scripted", "tokens": 10}}
    path = arena_in(tmp_path, tiny_model, arms, recipe, equal="sampled_tokens", pilot=5)
    line = lineup(path)
    chosen = asyncio.run(equal.settings(line))
    assert chosen == {"one": {"questions_per_round": 12}, "three": {"questions_per_round": 4}}
    assert [e.recipe.questions_per_round for e in line.entries(chosen)] == [12, 4]
    sent = asked(line.everything())
    assert asyncio.run(equal.settings(line)) == chosen and asked(line.everything()) == sent
    stored = json.loads((tmp_path / "arena" / "equal.json").read_text())["arms"]["three"]
    assert stored["expected"] == pytest.approx(1.0) and stored["measured"]["each"] == 30
    with pytest.raises(StaleError, match="control: one, by: questions_per_round, pilot: 5"):
        asyncio.run(equal.settings(lineup(path, "control=three")))
    by_samples = lineup(path, "sampled_by=method.samples")
    (tmp_path / "arena" / "equal.json").unlink()
    assert asyncio.run(equal.settings(by_samples)) == {
        "one": {"method.samples": 1},
        "three": {"method.samples": 1},
    }


def test_a_stage_that_has_begun_is_not_taken_over(finished: tuple[Lineup, dict[str, Any], Path]) -> None:
    line, _, _ = finished
    run = line.run("window", 0)
    parts = fingerprint.stored(run.stage(1, "generate"))
    again = RunDir(line.folder / "again", run.twins)
    recipe = run.recipe()
    folder = again.stage(1, "generate")
    Path(folder).mkdir(parents=True)
    assert not sharing.take_over_stage(again, folder, "generate", parts, recipe)
    Path(folder).rmdir()
    assert not sharing.take_over_stage(again, folder, "generate", parts | {"seed": 9}, recipe)
    other = recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"answers": "hash"})})
    assert not sharing.take_over_stage(again, folder, "generate", parts, other)
    assert sharing.take_over_stage(again, folder, "generate", parts, recipe)
    assert again.manifest(folder) == run.manifest(run.stage(1, "generate"))


def test_killed_in_the_middle_it_goes_on_and_asks_nothing_twice(
    tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    """kill -9 of the driver while it samples; a budget keeps it from going on to a training."""
    arms = {"two": {"method.samples": 2}, "one": {"method.samples": 1}}
    engine = {"kind": "scripted", "answers": "tests.scripted_answers:sums", "latency": 0.2, "jitter": 0.5}
    recipe = {"demonstrations": None, "engine": engine, "runner": {"in_flight": 2}}
    path = arena_in(tmp_path, tiny_model, arms, recipe, budget={"sampled_tokens": 1})
    _, found = make(path)  # the untrained model's evaluation, which both share
    more = f"budget.sampled_tokens={found['spent']['sampled_tokens'] + 1}"
    line = lineup(path, more)
    stage = Path(line.run("two", 0).stage(1, "generate"))
    with open(tmp_path / "out", "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stages.arena.arenas", str(path), more],
            cwd=PROJECT,
            stdout=out,
            stderr=out,
        )
    end = time.monotonic() + 200
    while logged(stage) < 4:
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "out").read_text()
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = Counter(asked(line.everything()))
    outcome, _ = make(path, more)
    assert outcome.stopped.endswith("stopped before critique of round 1 of two, seed 0")
    after = Counter(asked(line.everything()))
    assert max(after.values()) == 1 and before <= after and after.total() == 20 + 12
