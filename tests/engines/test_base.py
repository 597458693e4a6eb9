"""Requests and their parts."""

import pytest
from pydantic import ValidationError

from pipeline.engines.base import Completion, Sampling


def test_overridden_sampling_is_validated_and_serialized_anew() -> None:
    sampling = Sampling(temperature=0.5, stop=("#",))
    assert sampling.as_json["max_tokens"] == 512
    changed = sampling.override(max_tokens=3, extra={"a": 1})
    assert changed == Sampling(temperature=0.5, stop=("#",), max_tokens=3, extra={"a": 1})
    assert changed.as_json == {**sampling.as_json, "max_tokens": 3, "extra": {"a": 1}}
    assert sampling.as_json["max_tokens"] == 512 and sampling.override() == sampling
    for wrong in ({"max_tokens": 0}, {"maxtokens": 3}):
        with pytest.raises(ValidationError):
            sampling.override(**wrong)


def test_a_completion_is_stored_without_log_probabilities_it_does_not_have() -> None:
    plain = {"text": "a", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 2}
    assert Completion(**plain).to_json() == plain
    scored = {**plain, "prefill_logprobs": [-1.0]}
    assert Completion(**scored).to_json() == scored
