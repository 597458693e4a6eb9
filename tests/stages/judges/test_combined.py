"""Several verifiers as one: what they decide, and that nobody is asked about what is decided already."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.config import load_recipe
from pipeline.engines.base import Request
from pipeline.errors import ConfigError, DataError
from pipeline.methods import load_method
from pipeline.places import RECIPES
from pipeline.rows import Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM
from pipeline.stage import Seat
from stages.judges.base import Asking, Verifier
from stages.judges.base import Judged as Judged_
from stages.judges.stage import is_judging
from stages.rounds import evaluation
from stages.steps.verifiers import Verdict
from stages.tasks.freeze import freeze
from tests.stages.judges.asked import Judged, answer, recipe_with, score, shown_texts
from tests.stages.judges.test_judged_loop import open_recipe

FORMAT = "tests.stages.judges.test_combined:ends_with_a_full_stop"


def ends_with_a_full_stop(payload: dict[str, Any]) -> Verdict:
    return Verdict(payload["text"].endswith("."), None, "", None)


def unreadable(payload: dict[str, Any]) -> Verdict:
    return Verdict(False, None, "no_marked_answer", None)


def says(**scores: Any) -> Any:
    """A judge that gives each text its score."""

    def reply(request: Request) -> str:
        [shown] = shown_texts(request)
        return next(score(value) for text, value in scores.items() if text in shown)

    return reply


ROWS = [answer("q", "good.", 0), answer("q", "good", 1), answer("q", "bad.", 2), answer("q", "bad", 3)]
SAYS = says(good=9, bad=2)


def test_all_asks_no_model_about_what_a_function_refused() -> None:
    judged = Judged(recipe_with({"all": ["judge", FORMAT]}), ROWS, SAYS)
    assert list(judged.kept) == ["q-0"]
    assert judged.reasons == {"q-1": "wrong_answer", "q-2": "low_score", "q-3": "wrong_answer"}
    assert {r.row for r in judged.requests} == {"q-0", "q-2"}, (
        "the function goes first, wherever it is listed"
    )
    assert judged.kept["q-0"].payload["judgements"].keys() == {"1.judge"}
    assert judged.kept["q-0"].payload["verdict"]["score"] == 8 / 9, "the lowest of both"
    assert judged.dropped["q-1"][0].detail == f"{FORMAT} does not approve"
    assert judged.summary["verifiers"].keys() == {"1.judge"}, "nothing beside it changes what it decides"


def test_any_asks_no_model_about_what_a_function_approved() -> None:
    judged = Judged(recipe_with({"any": [{"kind": "judge"}, FORMAT]}), ROWS, SAYS)
    assert judged.reasons == {"q-3": "low_score"} and {r.row for r in judged.requests} == {"q-1", "q-3"}
    assert judged.kept["q-0"].payload["verdict"]["score"] is None


def test_weighted_scores_and_a_top_share_over_them() -> None:
    members = [
        {"verifier": FORMAT, "weight": 1},
        {"verifier": {"kind": "judge", "threshold": None}, "weight": 3},
    ]
    judged = Judged(recipe_with({"weighted": members, "threshold": 0.6}), ROWS, SAYS)
    expected = {"q-0": (1 + 3 * 8 / 9) / 4, "q-1": (3 * 8 / 9) / 4}
    assert {i: r.payload["verdict"]["score"] for i, r in judged.kept.items()} == pytest.approx(expected)
    assert judged.reasons == {"q-2": "low_score", "q-3": "low_score"}
    best = Judged(recipe_with({"weighted": members, "threshold": None, "top_share": 0.25}), ROWS, SAYS)
    assert list(best.kept) == ["q-0"]


def test_a_judgement_that_cannot_be_read_never_counts_as_a_score() -> None:
    members = [{"verifier": FORMAT}, {"verifier": "judge"}]
    for verifier in ({"weighted": members, "threshold": 0}, {"all": [FORMAT, "judge"]}, {"any": ["judge"]}):
        judged = Judged(recipe_with(verifier), ROWS[:1], lambda _: "10 out of 10")
        assert judged.reasons == {"q-0": "unreadable_judgement"}


def test_an_unreadable_judgement_is_no_refusal_where_any_would_do() -> None:
    verifier = {"any": [{"kind": "judge", "rubric": "FIRST"}, {"kind": "judge", "rubric": "SECOND"}]}
    for first, second, reason in (("?", score(2), "unreadable_judgement"), (score(2), score(2), "low_score")):
        says = lambda r, a=first, b=second: a if "FIRST" in str(r.messages) else b  # noqa: E731
        assert Judged(recipe_with(verifier), ROWS[:1], says).reasons == {"q-0": reason}


def test_a_function_s_problem_saves_the_requests() -> None:
    broken = "tests.stages.judges.test_combined:unreadable"
    judged = Judged(recipe_with({"weighted": [{"verifier": "judge"}, {"verifier": broken}]}), ROWS, SAYS)
    assert set(judged.reasons.values()) == {"no_marked_answer"} and not judged.requests
    assert judged.summary == {"note": "no answer was judged by a model"}


def test_verifiers_within_verifiers_have_labels_by_their_place() -> None:
    inner = {"any": [{"kind": "judge", "threshold": 9}, {"kind": "judge", "threshold": 2}]}
    judged = Judged(recipe_with({"all": [FORMAT, inner]}), ROWS[:1], lambda _: score(5))
    assert judged.kept["q-0"].payload["judgements"].keys() == {"2.1.judge", "2.2.judge"}
    assert judged.stage.seats.keys() == {"2.1.judge", "2.2.judge"}
    assert judged.summary["verifiers"].keys() == {"2.1.judge", "2.2.judge", "verdict"}
    assert [ask.least for ask in judged.stage.work.asks] == [0, 0], "a function comes before them"


class OwnConfig(Asking):
    """Settings of a verifier of a user's own."""

    word: str


class Own(Verifier):
    """Approves what the model repeats with a certain word."""

    Config = OwnConfig

    async def judge(self, row: Row, llm: LLM) -> Judged_:
        [reply] = await llm.at(self.label).chat([{"role": "user", "content": row.payload["text"]}])
        return Judged_(Verdict(self.config.word in reply.text, None, "", None), {self.label: {"score": 1.0}})


def test_a_verifier_of_a_user_s_own_asks_a_model() -> None:
    kind = "tests.stages.judges.test_combined:Own"
    judged = Judged(recipe_with({"kind": kind, "word": "good"}), ROWS, lambda r: r.messages[0]["content"])
    assert sorted(judged.kept) == ["q-0", "q-1"] and set(judged.reasons.values()) == {"low_score"}
    assert (
        judged.stage.seats == {kind: Seat("untrained", None, f"verifier {kind}")}
        and len(judged.requests) == 4
    )
    with pytest.raises(ConfigError, match="verifier.word: is missing"):
        recipe_with({"kind": kind})


def test_tasks_that_a_function_cannot_judge_are_refused_before_anything_is_asked(
    run: RunDir, tmp_path: Path
) -> None:
    recipe = open_recipe(tmp_path, verifier={"all": ["ground_truth", "judge"]})
    freeze(run, recipe)
    with pytest.raises(DataError, match="tasks: 1 of 1 questions have no answer"):
        evaluation.check_tasks(run, recipe)


@pytest.mark.parametrize("name", ["agent_r", "self_lengthen", "entigraph"])
def test_a_method_with_rules_of_its_own_is_no_judging_one(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml", ["verifier={kind: judge}"])
    assert not is_judging(load_method(recipe).stages()["verify"])
    orjson.dumps(evaluation.stage(recipe).config)
    with pytest.raises(ConfigError, match="self is its own judge"):
        load_recipe(RECIPES / "self.yaml", ["verifier={kind: judge}"])
