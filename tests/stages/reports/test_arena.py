"""An arena's figures against values reckoned by hand, and how they read."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Arena
from pipeline.rundir import RunDir
from pipeline.statistics import Term, contrast, holm
from pipeline.store import files
from pipeline.store.manifest import Manifest, Tokens
from stages.reports.arena import figures, write
from stages.reports.arena_tables import markdown, show
from tests.stages.reports.evaluated import evaluated

NAMES = [f"q{i}" for i in range(40)]
STATE = {"spent": {"hours": 1.5, "sampled_tokens": 12345}, "stopped": "", "failed": {}}


def right(count: int, first: int = 0) -> dict[str, bool | None]:
    return {name: first <= i < first + count for i, name in enumerate(NAMES)}


def took(run: RunDir, tokens: int, trained: int) -> RunDir:
    """Note what round 1 of a run took."""
    Manifest(
        stage="generate", round=1, method="direct", fingerprint="f", rows_in=0, rows_done=0, rows_out=0,
        seconds=60.0, tokens=Tokens(completion=tokens),
    ).write(run.stage(1, "generate"))  # fmt: skip
    files.write_json(f"{run.stage(1, 'train')}/train.json", {"tokens": trained, "steps": 10, "seconds": 59.0})
    return run


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, dict[int, RunDir]]:
    """A control and two arms with two seeds; `more` samples twice as much."""

    def run(arm: str, seed: int, last: dict[str, bool | None], tokens: int) -> RunDir:
        return took(evaluated(tmp_path / arm / str(seed), {0: right(20), 1: last}, seed=seed), tokens, 500)

    return {
        "control": {0: run("control", 0, right(20), 1000), 1: run("control", 1, right(22), 1000)},
        "more": {0: run("more", 0, right(30), 2000), 1: run("more", 1, right(32), 2000)},
        "shifted": {0: run("shifted", 0, right(20, 2), 1050), 1: run("shifted", 1, right(22, 1), 1050)},
    }


def arena(**changes: Any) -> Arena:
    arms: dict[str, Any] = {"more": {}, "control": {}, "shifted": {}}
    given = {
        "name": "test",
        "recipe": "r",
        "arms": arms,
        "control": "control",
        "seeds": [0, 1],
        "equal": "sampled_tokens",
    }
    return Arena.model_validate({**given, **changes})


def test_figures_by_hand(runs: dict[str, dict[int, RunDir]]) -> None:
    found = figures(arena(), runs, None, STATE)
    assert found["compared"] == {"round": 1, "seeds": [0, 1]}
    control, more, shifted = found["arms"]
    assert [control["by_round"][-1][key] for key in ("accuracy", "by_seed")] == [21 / 40, [20 / 40, 22 / 40]]
    assert more["gain"]["mean"] == pytest.approx((10 + 12) / 80)
    assert more["costs"] == {"sampled_tokens": 2000, "trained_tokens": 500, "steps": 10, "minutes": 2.0}
    assert more["ratios"]["sampled_tokens"] == 2 and more["unequal"]
    assert shifted["ratios"]["sampled_tokens"] == pytest.approx(1.05) and not shifted["unequal"]
    against = shifted["flips_from_control"]
    assert (against["won"], against["lost"], against["n"]) == (2 + 1, 2 + 1, 80)
    assert [flip["task_id"] for flip in against["lost_questions"]] == ["q0", "q1"]
    assert shifted["flips_from_start"]["lost"] == 3
    curve = [r["costs_so_far"]["sampled_tokens"] for r in more["by_round"]]
    assert curve == [0, 2000]


def test_comparisons_are_joint_over_seeds_and_corrected(runs: dict[str, dict[int, RunDir]]) -> None:
    first, second, between = figures(arena(), runs, None, STATE)["comparisons"]
    assert [(c["arm"], c["against"]) for c in (first, second, between)] == [
        ("more", "control"), ("shifted", "control"), ("shifted", "more"),
    ]  # fmt: skip
    values = {("more", s): {n: float(v or 0) for n, v in right(30 + 2 * s).items()} for s in (0, 1)} | {
        ("control", s): {n: float(v or 0) for n, v in right(20 + 2 * s).items()} for s in (0, 1)
    }
    terms = [Term(sign / 2, values[arm, s]) for arm, sign in (("more", 1), ("control", -1)) for s in (0, 1)]
    expected = contrast(terms)
    assert first["mean"] == pytest.approx(0.25) and first["by_seed"] == pytest.approx([0.25, 0.25])
    assert (first["low"], first["high"], first["p"]) == pytest.approx(expected[1:])
    assert [first["p_holm"], second["p_holm"]] == holm([first["p"], second["p"]])
    assert first["p_holm"] == pytest.approx(2 * first["p"]) and between["p_holm"] == between["p"]
    assert second["p"] > 0.5


def test_what_is_not_finished_by_all_is_left_out_and_said(
    runs: dict[str, dict[int, RunDir]], tmp_path: Path
) -> None:
    runs["more"][1] = RunDir(tmp_path / "not begun")
    found = figures(arena(), runs, None, STATE)
    assert found["compared"] == {"round": 1, "seeds": [0]} and found["arms"][0]["by_round"][-1][
        "by_seed"
    ] == [0.5]
    assert found["notes"] == ["Without seed 1: not all arms have finished round 1 with it."]
    runs["more"][0] = RunDir(tmp_path / "nor this")
    found = figures(arena(), runs, None, STATE)
    assert [arm["arm"] for arm in found["arms"]] == ["control", "shifted"]
    assert found["notes"][0] == "Without more: no round of theirs is finished yet."
    nothing = figures(
        arena(), {arm: {0: RunDir(tmp_path / "x"), 1: RunDir(tmp_path / "y")} for arm in runs}, None, STATE
    )
    assert nothing["arms"] == [] and "Nothing to compare yet" in markdown(nothing, False)


def test_another_judge_is_said(runs: dict[str, dict[int, RunDir]], tmp_path: Path) -> None:
    for verifier, notes in (("majority_vote", 0), ("task_scorer", 1)):
        answers = {0: right(20), 1: right(20)}
        runs["more"] = {
            s: evaluated(tmp_path / verifier / str(s), answers, seed=s, verifier=verifier) for s in (0, 1)
        }
        found = figures(arena(), runs, None, STATE)
        assert len(found["notes"]) == notes
    assert "task_scorer judges the answers of more, and ground_truth those of control" in found["notes"][0]


def test_tables_for_people(
    runs: dict[str, dict[int, RunDir]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    found = figures(arena(), runs, None, {**STATE, "stopped": "budget.hours: 1 h are used up"})
    write(found, str(tmp_path / "out"))
    show(found)
    printed, written = capsys.readouterr().out, (tmp_path / "out" / "arena.md").read_text()
    for text in (
        "UNEQUAL: more took more or fewer sampled tokens",
        "In all: 1.50 hours, 12,345 tokens",
        "used up",
    ):
        assert text in printed.replace("\n", " ") and text in written
    assert "2,000 (2.00x UNEQUAL)" in written and "+25.0% [" in written
    assert (tmp_path / "out" / "arena.png").stat().st_size > 5000
    rows = [line for line in written.splitlines() if line.startswith("| more |")]
    assert len(rows) == 5, "its accuracy, costs, difference, and two rounds"
    assert "## Forgotten by shifted: 3 of 80 answers of round 0" in written


def test_measures_of_a_method_stand_by_round_where_all_arms_have_them(
    runs: dict[str, dict[int, RunDir]], tmp_path: Path
) -> None:
    for arm in runs:
        for seed, run in runs[arm].items():
            for round_ in (0, 1):
                words = {"words": {"mean": 100.0 * round_ + seed}}
                other = {"loops": {"mean": 1.0}} if arm == "more" else {}
                facts = files.read_json(run.evaluation(round_))
                files.write_json(run.evaluation(round_), {**facts, "measures": words | other})
    write(figures(arena(), runs, None, STATE), str(tmp_path))
    written = (tmp_path / "arena.md").read_text()
    assert "**words, mean (each seed)**" in written and "loops" not in written
    assert "| shifted | 0.500 (0.000, 1.000) | 100.500 (100.000, 101.000) |" in written
    assert (tmp_path / "arena.png").stat().st_size > 5000


def test_answers_that_are_more_or_less_right_become_worse_or_better(
    runs: dict[str, dict[int, RunDir]], tmp_path: Path
) -> None:
    graded = {0: dict.fromkeys(NAMES, 0.5), 1: dict.fromkeys(NAMES, 0.25)}
    runs["more"][0] = evaluated(tmp_path / "graded", graded)
    written = markdown(figures(arena(), runs, None, STATE), False)
    assert "| worse | better |" in written and "Forgotten by more" not in written
    assert "Forgotten by shifted" in written


def test_model_text_is_no_markup(runs: dict[str, dict[int, RunDir]]) -> None:
    found = figures(arena(), runs, None, STATE)
    hostile = {
        "question": "<script>x</script> | [a](b) ![i](j)",
        "truth": "**4**\n# no",
        "old": "\x1b[31m`x`",
        "new": "\u202eabc",
    }
    found["arms"][2]["flips_from_start"]["lost_questions"] = [{"task_id": "q", **hostile}]
    line = next(line for line in markdown(found, False).splitlines() if "script" in line)
    assert "<" not in line and "\x1b" not in line and "\u202e" not in line
    assert "\\|" in line and "\\[a\\](b)" in line and "\\*\\*4\\*\\*" in line
