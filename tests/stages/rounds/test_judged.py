"""A round's judged answers, and nothing else.

Right ones are from verify's rows, wrong ones from what it dropped.
"""

import pytest

from pipeline.errors import StageError
from pipeline.round import Round
from stages.rounds.judged import judged_answers
from tests.jobs.conftest import HOSTILE, Built, built

__all__ = ["built"]


def test_wrong_answers_and_minorities_are_wrong_what_failed_is_neither(built: Built):
    """Of five answers one was voted right, one compared and found wrong, two outvoted.

    On the fifth the verifier failed.
    """
    source = judged_answers(Round(built.run, 1, built.run.recipe()))
    rows = list(source.rows())
    assert source.count == len(rows) == 4
    found = {row.id: row.payload["verdict"] for row in rows}
    right, wrong = built.child("t1", 0, "filter", "verify"), built.child("t1", 1, "filter")
    assert found[right]["correct"] and not found[wrong]["correct"]
    assert found[wrong]["problem"] == "wrong_answer" and HOSTILE[:20] in str(
        next(r.payload["text"] for r in rows if r.id == wrong)
    )
    minority = {built.child("t3", i, "filter", "verify") for i in (0, 1)}
    assert found.keys() == {right, wrong} | minority and all(
        found[i]["problem"] == "minority" for i in minority
    )
    assert source.digest == judged_answers(Round(built.run, 1, built.run.recipe())).digest


def test_before_verify_is_done(built: Built):
    with pytest.raises(StageError, match="run this stage first"):
        judged_answers(Round(built.run, 2, built.run.recipe()))
