"""Errors: hints for misspelled names, and which of an engine's errors are the request's own."""

import pickle

import pytest

from pipeline.errors import DamagedError, EngineDied, EngineError, EngineLost, nearest, suggest


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


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("rounds/001/generate/part-0-1.arrow", "delete the files named part-0-1.arrow and manifest.json in "),
        (
            "rounds/001/verify/rows/part-0-1.arrow",
            "/rounds/001/verify and its folders rows, dropped and failed",
        ),
        ("rounds/001/verify/failed/part-0-1.arrow", "/rounds/001/verify and its folders rows"),
        ("rounds/001/verify/manifest.json", "delete this file"),
        ("rounds/001/train/progress.jsonl", "Leave folders named requests alone"),
        ("tasks/train/part-0-1.arrow", "start again in a new run directory"),
        (
            "datasets/sft/round-001/manifest.json",
            "delete its folder, which the same command then writes again",
        ),
    ],
)
def test_the_advice_on_a_damaged_file_keeps_the_request_log(path: str, says: str) -> None:
    text = str(DamagedError.of(f"/tasks/rounds/r/{path}", "damaged"))
    assert text.startswith(f"/tasks/rounds/r/{path}: damaged. Restore it from a backup, or ") and says in text
    if path.endswith("1.arrow") and "rounds" in path:
        assert "Leave its folder requests alone" in text
