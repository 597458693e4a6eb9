"""Further evaluation sets, each with its own judge.

A recipe without any is what it was, and mistakes are named.
"""

from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, meta

from pipeline import prompts
from pipeline.config import load_recipe
from pipeline.errors import ConfigError
from stages.methods.regenesis import method as regenesis
from stages.rounds import evaluation, measures
from stages.steps.asking import mark_asked_for
from tests.conftest import tiny_recipe

GYM = {"source": "reasoning_gym", "dataset": "gcd", "limit": 5}
FILE = {"source": "jsonl", "path": "more.jsonl"}


def test_without_sets_the_fingerprint_is_what_it_was() -> None:
    plain, with_sets = tiny_recipe(), tiny_recipe(evaluate={"sets": {"far": GYM}})
    config = {"max_tokens": None, "samples": 0, "temperature": 0.8, "verifier": "ground_truth"}
    assert evaluation.stage(plain).config == config == evaluation.stage(with_sets).config
    assert evaluation.stage(plain).prompts == ("direct/solve",)
    assert evaluation.stage(with_sets, "far").config == {**config, "verifier": "task_scorer"}
    assert plain.model_dump(mode="json")["evaluate"]["sets"] == {}


@pytest.mark.parametrize(
    ("verifier", "source", "judge"),
    [
        ("ground_truth", GYM, "task_scorer"),
        ("majority_vote", GYM, "task_scorer"),
        ("task_scorer", FILE, "ground_truth"),
        ("ground_truth", FILE, "ground_truth"),
        ("majority_vote", FILE, "majority_vote"),
        ("mine:judge", FILE, "mine:judge"),
    ],
)
def test_each_set_has_its_own_judge(verifier: str, source: dict[str, Any], judge: str) -> None:
    recipe = tiny_recipe(verifier=verifier, evaluate={"sets": {"far": source}})
    assert evaluation.verifier_of(recipe, "far") == judge and evaluation.verifier_of(recipe, None) == verifier


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            "{far: {source: jsonl, path: x, limt: 3}}",
            r"r.yaml:4: evaluate.sets.far.limt: unknown key 'limt'; did you mean 'limit'",
        ),
        ("{far: {path: x}}", r"r.yaml:4: evaluate.sets.far.source: is missing"),
        (
            "{far: {source: jsonl, columns: {questoin: q}}}",
            r"evaluate.sets.far.columns.questoin: unknown key 'questoin'; did you mean 'question'",
        ),
        ("{'../x': {source: jsonl, path: x}}", r"evaluate.sets.*should match pattern"),
    ],
)
def test_mistakes_in_a_set_are_named(sets: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        f"name: r\ntasks: {{source: jsonl, path: t}}\nevaluate:\n  sets: {sets}\n"
    )
    with pytest.raises(ConfigError, match=said):
        load_recipe(tmp_path / "r.yaml")


def test_a_mapping_is_no_number_in_a_vote() -> None:
    """As cryptarithm is answered: its last number alone would make all mappings one vote."""
    task = {"answer_type": "number"}
    assert evaluation._vote("A=1, B=3", task) != evaluation._vote("A=2, B=3", task) and evaluation._vote(
        "x = 3", task
    ) == evaluation._vote("3.0", task)


@pytest.mark.parametrize(
    ("said", "right", "of"),
    [
        (
            ["olleh", "ollhe", "ollhe", "ollhe"],
            [True, False, False, False],
            0.0,
        ),  # a text is no number: that is not one vote for all
        (["olleh", "ollhe", "olleh"], [True, False, True], 1.0),
        (["12", "12.0", "13"], [True, True, False], 1.0),
    ],
)
def test_votes_are_by_what_was_said_whatever_the_type_of_answer(
    said: list[str], right: list[bool], of: float
) -> None:
    task = {"answer_type": "number", "options": None}
    samples = [
        {"key": evaluation._vote(text, task), "correct": r} for text, r in zip(said, right, strict=True)
    ]
    assert measures._majority_right(samples, len(samples)) == of


def test_only_hinted_templates_have_a_place_for_the_answer() -> None:
    def variables(step: str) -> set[str]:
        return meta.find_undeclared_variables(Environment().parse(prompts.SHIPPED.source(step)))

    assert [
        step
        for step in (regenesis.SELECT, *regenesis.PLAIN, regenesis.SOLVE)
        if variables(step) & {"answer", "truth", "solution"}
    ] == []
    assert all("answer" in variables(step) for step in regenesis.HINTED)
    assert mark_asked_for(prompts.SHIPPED) == "box"
