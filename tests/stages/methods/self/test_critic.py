"""Verdicts: counted, and held against a ground truth that decided nothing."""

import pytest

from pipeline.errors import StageError
from pipeline.rows import Row
from stages.methods.self.critic import base_rate, quality


def rows(*approved: bool | None, initial: bool = False) -> list[Row]:
    made = {"initial_verdict": initial, "initial_tokens": 4, "completion_tokens": 6}
    return [Row(f"r{i}", {**made, "approved": a}) for i, a in enumerate(approved)]


def judged(right: int, wrong: int, found: int = 0, unread: int = 0) -> list[Row]:
    """Rows of phase 2, whose texts say whether they are right; `found` of the wrong ones are rejected."""
    made = {"initial_verdict": True, "initial_tokens": 4, "completion_tokens": 6}
    verdicts = [("right", True)] * right + [("wrong", False)] * found + [("wrong", True)] * (wrong - found)
    verdicts += [("right", None)] * unread
    return [Row(f"r{i}", {**made, "text": t, "approved": a}) for i, (t, a) in enumerate(verdicts)]


def by_text(row: Row, text: str) -> bool | None:
    return {"right": True, "wrong": False}.get(text)


def unknown(row: Row, text: str) -> None:
    return None


def test_a_critic_that_finds_no_wrong_answer_stops_the_run() -> None:
    with pytest.raises(
        StageError,
        match=r"the critic approved 40 of 40 answers \(100.0%\), more than method.max_positive = 95% allows, "
        r"and by the ground truth it found 0 of 20 wrong ones \(0.0%\).*selfloop branch",
    ):
        base_rate(0.95, by_text, judged(20, 20), [])
    with pytest.raises(StageError, match="39 of 39"):
        base_rate(0.95, by_text, judged(30, 9, unread=30), [])
    assert "warning" not in base_rate(1.0, by_text, judged(20, 20), [])
    assert base_rate(0.95, by_text, judged(0, 19), [])["positive"] == 19, "too few to tell"


@pytest.mark.parametrize(
    ("right", "wrong", "found", "why"),
    [
        (
            48,
            2,
            0,
            "by the ground truth it found 0 of 2 wrong ones (0.0%)",
        ),  # a good model has few wrong answers
        (50, 0, 0, "no answer is known to be wrong"),
        (95, 5, 2, "by the ground truth it found 2 of 5 wrong ones (40.0%)"),
    ],
)
def test_a_critic_of_a_good_model_is_warned_of(right: int, wrong: int, found: int, why: str) -> None:
    facts = base_rate(0.95, by_text, judged(right, wrong, found), [])
    assert facts["warning"].endswith(f"more than method.max_positive = 95%; {why}")
    assert facts["note"].endswith(f". Warning: {facts['warning']}")


def test_without_a_known_truth_nothing_is_stopped() -> None:
    assert "no answer is known to be wrong" in base_rate(0.95, unknown, judged(20, 20), [])["warning"]
    assert "warning" not in base_rate(0.95, unknown, judged(36, 4, 4), [])


def test_phase_1_is_never_stopped() -> None:
    """48 right first answers of 50 are a good model, not a bad critic."""
    meta = [
        Row(f"m{i}", {"initial_verdict": i > 1, "initial_tokens": 2, "completion_tokens": 3, "text": "wrong"})
        for i in range(50)
    ]
    facts = base_rate(
        0.95, by_text, meta, [("unparsable_feedback", Row("x", {})), ("empty_answer", Row("y", {}))]
    )
    assert (facts["judged"], facts["positive"], facts["unparsable"]) == (50, 48, 1) and "warning" not in facts
    assert facts["note"] == (
        "the critic approved 48 of 50 first answers (96.0%); 1 verdicts could not be parsed; "
        "mean tokens 2.0 before refinement, 3.0 after"
    )


def test_lengths_and_rates_are_told() -> None:
    facts = base_rate(
        0.95, unknown, rows(True, False, None, True, initial=True), [("unparsable_feedback", Row("x", {}))]
    )
    assert facts["note"] == (
        "the critic approved 2 of 3 refined answers (66.7%) and 4 of 4 first answers (100.0%); "
        "2 verdicts could not be parsed; "
        "mean tokens 4.0 before refinement, 6.0 after"
    )
    assert base_rate(0.95, unknown, [], [])["base_rate"] is None


def test_precision_and_recall_by_the_hidden_truth() -> None:
    """Texts say whether they are right.

    Of 5 known rows 3 are kept, 2 of them right, and 1 right one was dropped.
    """

    def row(initial: str, text: str, yes: bool) -> Row:
        return Row(f"{initial}{text}{yes}", {"initial": initial, "text": text, "initial_verdict": yes})

    kept = [
        row("wrong", "right", False),
        row("right", "right", True),
        row("right", "wrong", False),
        row("?", "?", True),
    ]
    dropped = [("not_approved", row("wrong", "right", True)), ("not_approved", row("wrong", "wrong", False))]
    facts = quality(lambda _, text: {"right": True, "wrong": False, "?": None}[text], kept, dropped)
    assert (
        facts["truth_known"],
        facts["truth_unknown"],
        facts["kept"],
        facts["right"],
        facts["kept_right"],
    ) == (5, 1, 3, 3, 2)
    assert facts["precision"] == facts["recall"] == 2 / 3 and facts["initial_accuracy"] == 0.4
    assert (
        (facts["mended"], facts["spoilt"]) == (2, 1)
        and facts["verdict_accuracy"] == 0.6
        and facts["wrong_found"] == 2 / 3
    )
    assert (
        "2 of 3 kept answers (66.7%) are right (precision) and 2 of 3 right answers (66.7%) were kept "
        "(recall)" in facts["note"]
    )
    none = quality(lambda _, text: None, kept, dropped)
    assert none["precision"] is None and none["note"] == "no ground truth to measure the filter by"
