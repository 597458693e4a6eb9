"""Copies: what is found."""

from hypothesis import given
from hypothesis import strategies as st

from stages.methods.entigraph.copies import copied


def test_a_longer_run_than_allowed_is_a_copy_whatever_the_white_space() -> None:
    document = "".join(chr(97 + i % 26) + ("\n" if i % 7 == 0 else " ") for i in range(400))
    flat = " ".join(document.split())
    assert copied("x" + flat[50:250].replace(" ", "\n ") + "x", document, 200) == ""
    assert len(copied("y" + flat[50:252] + "y", document, 200)) == 201
    assert copied("short", "short", 200) == ""


@given(st.text("ab \n", max_size=60), st.text("ab \n\U0001f600\ud800", max_size=60), st.integers(1, 12))
def test_the_run_is_the_one_that_comparing_every_window_finds(text: str, document: str, longest: int) -> None:
    flat, source = " ".join(text.split()), " ".join(document.split())
    windows = (flat[i : i + longest + 1] for i in range(len(flat) - longest))
    assert copied(text, document, longest) == next((run for run in windows if run in source), "")
