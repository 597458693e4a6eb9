"""Which runs are seeds of one arm, and which are arms of their own."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.rundir import RunDir
from stages.reports.comparison import arms
from tests.conftest import tiny_recipe


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 1}, "direct, all"),
        (
            {
                "name": "other",
                "evaluate": {"base_model": False},
                "runner": {"workers": 2},
                "engine": {"kind": "scripted", "latency": 1},
            },
            "direct, all",
        ),
        ({"train": {"start": "continue"}}, "direct, all, continued"),
        (
            {"accumulate": {"policy": "replace", "keep_real": False, "keep_rounds": [1]}},
            "direct, replace, without real data, keeping rounds [1]",
        ),
    ],
)
def test_strategies_are_arms_and_seeds_are_not(changes: dict[str, Any], name: str, tmp_path: Path) -> None:
    runs = [RunDir(tmp_path / "a"), RunDir(tmp_path / "b")]
    for run, more in zip(runs, ({}, changes), strict=True):
        run.freeze(tiny_recipe(**more))
    found = arms(runs)
    assert [arm.name for arm in found] == list(dict.fromkeys(["direct, all", name]))
    assert sum(len(arm.runs) for arm in found) == 2


def test_what_else_differs_tells_arms_apart_and_is_in_their_names(tmp_path: Path) -> None:
    """Pooled as if they were seeds, the mean of different methods would be given with the interval of one."""
    settings = [("a", {"samples": 4}, 0), ("b", {"samples": 4}, 1), ("c", {"samples": 8}, 0)]
    runs = [RunDir(tmp_path / name) for name, *_ in settings]
    for run, (_, options, seed) in zip(runs, settings, strict=True):
        run.freeze(tiny_recipe(method={"name": "direct", **options}, seed=seed))
    assert {arm.name: len(arm.runs) for arm in arms(runs)} == {
        "direct, all, method.samples 4": 2,
        "direct, all, method.samples 8": 1,
    }
