"""A round that trains an adapter for each role.

From which data, from where on, and what is said of them together. TRL is not started.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StageError
from pipeline.models import ModelRef, with_adapters
from pipeline.publish.dataset import publish
from pipeline.round import Round
from pipeline.rundir import RunDir
from pipeline.store.files import write_json
from pipeline.training import TrainResult, TrainSpec
from stages.rounds import training
from tests.conftest import tiny_recipe
from tests.publish.conftest import FACTS, make_rows

ROLES = ("generator", "extender")
BASE = ModelRef("/models/base", "base", "b" * 40)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainSpec]:
    """What was trained, in order; each leaves a folder that looks like an adapter."""
    specs: list[TrainSpec] = []

    def train(spec: TrainSpec, on_progress: Any, address: str | None) -> TrainResult:
        specs.append(spec)
        write_json(f"{spec.out}/adapter_config.json", {"r": 4, "role": spec.role, "from": spec.adapter})
        n = sum(len(make_rows(part.round + (spec.role == "generator"))) for part in spec.mixture.parts)
        shares = {
            "real": 0,
            "synthetic": n,
            "rounds": {
                str(part.round): part.round + (spec.role == "generator") for part in spec.mixture.parts
            },
        }
        return TrainResult(spec.out, "r", "b", 3, n, 1, 100, 2.0, 50.0, 0.5, shares, {}, {}, {})

    monkeypatch.setattr("pipeline.training.launch.train", train)
    return specs


def train_round(run: RunDir, round_: int, start: ModelRef = BASE, **changes: Any) -> TrainResult:
    recipe = tiny_recipe(
        method={"name": "self_lengthen"}, train={"adapters": True, "lora": {"r": 4}}, **changes
    )
    return training.train_round(Round(run, round_, recipe), start, BASE, ROLES)


@pytest.fixture
def publish_rounds(run: RunDir) -> Callable[..., None]:
    def make(extender: bool = True) -> None:
        for round_ in (1, 2):
            publish(make_rows(round_ + 1, round_), run.dataset("sft-generator", round_), FACTS, 0)
            publish(
                make_rows(round_ if extender else 0, round_), run.dataset("sft-extender", round_), FACTS, 0
            )

    return make


def test_every_role_learns_from_its_own_rounds_and_goes_on_from_its_own_adapter(
    run: RunDir, trained: list[TrainSpec], publish_rounds: Callable[..., None]
) -> None:
    publish_rounds()
    first = train_round(run, 1)
    before = with_adapters(BASE, run.model(1), ROLES)
    second = train_round(run, 2, before)
    assert [(s.role, Path(s.out).parts[-2:], s.model) for s in trained] == [
        (role, (f"round-00{r}", role), BASE) for r in (1, 2) for role in ROLES
    ]
    assert [s.adapter for s in trained] == [None, None, *(f"{run.model(1)}/{role}" for role in ROLES)]
    for spec in trained[2:]:
        assert [Path(part.path).parts[-2:] for part in spec.mixture.parts] == [
            (f"sft-{spec.role}", f"round-00{r}") for r in (1, 2)
        ], "accumulated"
    assert (
        first.examples,
        second.examples,
        second.steps,
        second.left_out,
        second.tokens,
        second.seconds,
        second.tokens_per_second,
    ) == (3, 8, 6, 2, 200, 4.0, 50.0)
    assert second.shares == {"real": 0, "synthetic": 8, "rounds": {"1": 3, "2": 5}}
    assert (
        second.revision
        == with_adapters(BASE, run.model(2), ROLES).revision
        != before.revision
        == first.revision
    )
    assert train_round(run, 2, before) == second and trained[4:] == trained[2:4], (
        "each training is asked again, and refuses other inputs itself"
    )


def test_replace_takes_the_newest_round_alone(
    run: RunDir, trained: list[TrainSpec], publish_rounds: Callable[..., None]
) -> None:
    publish_rounds()
    train_round(run, 2, accumulate={"policy": "replace"})
    assert [[part.round for part in s.mixture.parts] for s in trained] == [[2], [2]]


def test_a_role_without_examples_is_played_by_the_base_model(
    run: RunDir, trained: list[TrainSpec], publish_rounds: Callable[..., None]
) -> None:
    publish_rounds(extender=False)
    assert train_round(run, 1).examples == 2 and [s.role for s in trained] == ["generator"]
    assert [role for role, _ in with_adapters(BASE, run.model(1), ROLES).adapters] == ["generator"]


def test_a_role_that_goes_on_without_examples_keeps_its_adapter(
    run: RunDir, trained: list[TrainSpec], publish_rounds: Callable[..., None]
) -> None:
    publish_rounds()
    train_round(run, 1)
    before = with_adapters(BASE, run.model(1), ROLES)
    shutil.rmtree(run.dataset("sft-extender", 2))
    publish([], run.dataset("sft-extender", 2), FACTS, 0)
    train_round(run, 2, before, accumulate={"policy": "replace"})
    assert [s.role for s in trained[2:]] == ["generator"]
    kept = dict(with_adapters(BASE, run.model(2), ROLES).adapters)["extender"]
    assert (
        Path(kept, "adapter_config.json").read_bytes()
        == Path(dict(before.adapters)["extender"], "adapter_config.json").read_bytes()
    )


def test_no_examples_at_all_is_an_error(run: RunDir, trained: list[TrainSpec]) -> None:
    for role in ROLES:
        publish([], run.dataset(f"sft-{role}", 1), FACTS, 0)
    with pytest.raises(StageError, match="no role has an example"):
        train_round(run, 1)
