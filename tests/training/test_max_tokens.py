"""train.max_tokens: as many steps as come nearest to a number of tokens, however long the examples are."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Train
from pipeline.models import ModelRef
from pipeline.publish.accumulate import Mixture
from pipeline.publish.kinds import DPO, SFT
from pipeline.training.data import prepare_data
from pipeline.training.launch import train
from pipeline.training.spec import TrainSpec, fingerprint
from tests.training.conftest import rounds, tiny_model, tokenizer

__all__ = ["rounds", "tiny_model", "tokenizer"]


def spec_with(kind: object = SFT, **settings: object) -> TrainSpec:
    train_ = Train.model_validate(settings)
    return TrainSpec(ModelRef("m", "m", "1"), "out", "work", Mixture(()), train_, 0, kind=kind)  # type: ignore[arg-type]


@given(st.integers(1, 10**7), st.floats(1, 2000), st.integers(1, 64))
def test_no_other_number_of_steps_comes_nearer(wanted: int, each: float, batch: int) -> None:
    spec = spec_with(max_tokens=wanted, max_steps=3, batch_size=batch).with_steps(each)
    steps = spec.settings.max_steps
    assert steps is not None and steps >= 1 and spec.train.max_tokens is None
    off = [abs(n * batch * each - wanted) for n in (steps - 1, steps, steps + 1) if n >= 1]
    assert abs(steps * batch * each - wanted) == pytest.approx(min(off))


def test_pairs_take_as_many_tokens() -> None:
    spec = spec_with(DPO, max_tokens=1000, batch_size=10, dpo={"batch_size": 5, "max_steps": 99}).with_steps(
        20
    )
    assert spec.settings.max_steps == 10
    assert spec_with(max_steps=7).with_steps(20).settings.max_steps == 7


def test_trainings_without_it_are_not_stale(make_spec: Callable[..., TrainSpec]) -> None:
    """train/spec.json of earlier versions has no such key."""
    assert "max_tokens" not in fingerprint(make_spec())["train"]
    assert fingerprint(make_spec(max_tokens=9))["train"]["max_tokens"] == 9


@pytest.mark.train
def test_a_training_sees_that_many(make_spec: Callable[..., TrainSpec], in_process: None) -> None:
    spec = make_spec(max_tokens=700)
    data = prepare_data(replace(spec, work=f"{spec.work}-counted"))
    result = train(spec)
    assert result.steps == round(700 / (4 * data.tokens / data.examples)) > 1
    assert result.tokens == pytest.approx(700, rel=0.25)
