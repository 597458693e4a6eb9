"""Errors: hints for misspelled names, and which of an engine's errors are the request's own."""

import pickle

import pytest

from pipeline.errors import EngineDied, EngineError, EngineLost, nearest, suggest


def test_hints() -> None:
    known = {"alpha", "beta"}
    assert (nearest("betta", known), nearest("gamma!", ["x"])) == ("beta", None)
    assert (
        suggest("alhpa", known) == " Did you mean 'alpha'?"
        and suggest("zzz", known) == suggest("a", []) == ""
    )


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (EngineError("400"), True),
        (EngineError("503", retryable=True), False),
        (EngineDied("gone"), False),
        (EngineLost("no key"), False),
        (EngineDied("closed", retryable=True), False),
    ],
)
def test_a_refused_request_is_neither_retryable_nor_a_dead_engine_s(
    error: EngineError, refused: bool
) -> None:
    assert error.refused is refused is pickle.loads(pickle.dumps(error)).refused
