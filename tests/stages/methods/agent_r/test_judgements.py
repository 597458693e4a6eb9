"""Which model judges, and how its replies are read."""

import pytest

from pipeline.protocols import UNTRAINED
from stages.methods.agent_r.step_judge import parse_judgement
from tests.stages.methods.agent_r.scripted import method, model, task_rows, through


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("**Judgement: Bad**", "bad"),
        ("Judgement: **Bad**", "bad"),
        ("**Judgement:** Good.", "good"),
        ("__Judgement__: _uncertain_", "uncertain"),
        ("> - judgment: `bad`", "bad"),
        ("## Judgement: Bad!", "bad"),
        ("Judgement\uff1aBad", "bad"),
        ("Judgement: Bad - it wastes the last oriv.", "bad"),
        ("**Judgement: Bad** because it wastes oriv", "bad"),
        ("Judgement: Uncertain (too early to tell)", "uncertain"),
        ("Judgement: Good, Bad or Uncertain", None),
        ("Judgement: Bad - or is it good?", None),
        ("Judgement: goodness", None),
        ("Judgement: Good enough", None),
        ("Judgement: not bad", None),
        ("My Judgement: Bad", None),
        ("Judgement:", None),
    ],
)
def test_a_judgement_is_read_in_any_markup_and_with_a_reason_after_it(line: str, label: str | None) -> None:
    assert parse_judgement(f"It takes two.\n{line}") == parse_judgement(line) == label


def test_only_critique_asks_the_untrained_model_and_only_if_it_is_the_judge() -> None:
    m = method(judge="untrained")
    assert {name: m.engine(name, 2) for name in m.stages()} == {
        "generate": None,
        "critique": UNTRAINED,
        "filter": None,
        "verify": None,
    }
    assert all(method(judge=j).engine("critique", 2) is None for j in ("policy", "tree", "oracle"))
    assert m.stages()["critique"].prompts == ("agent_r/judge",)
    assert method(judge="untrained", arm="good_only").stages()["critique"].prompts == ()


def test_the_untrained_model_is_asked_as_the_policy_is_and_named() -> None:
    sent: list = []
    m = method(judge="untrained", arm="revision_only")
    row = task_rows(m)[0][4]
    records = through(m, row, model("Bad", sent))["critique"]
    assert records and all(r.payload["first_bad"] == r.payload["prefix"] + 1 for r in records)
    assert any(r.step == "agent_r/judge" for r in sent)
    assert "found by the untrained model" in m.notes([])[1]


def test_each_judge_makes_other_records() -> None:
    configs = [method(judge=j).stages()["critique"].config for j in ("policy", "untrained", "tree", "oracle")]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])


def test_the_plan_counts_the_requests_of_judges_that_are_models() -> None:
    asked = {j: method(judge=j).work("critique", 1).asks[0].most for j in ("policy", "untrained", "tree")}
    assert asked["policy"] == asked["untrained"] == 2 * 12 * 6 and asked["tree"] == 0
