"""Arena files: what they may say, and errors that name file, line and key."""

from pathlib import Path

import pytest

from pipeline.config import Arena, arena_overrides, load_section
from pipeline.errors import ConfigError
from pipeline.places import ARENAS
from stages.arena.lineup import Lineup

GOOD = """\
name: a
recipe: RECIPE
arms:
  x:
  y: {accumulate.policy: replace}
"""


def built(folder: Path, text: str, *overrides: str) -> Lineup:
    (folder / "r.yaml").write_text("name: r\ntasks: {source: jsonl, path: t.jsonl}\n")
    (folder / "a.yaml").write_text(text.replace("RECIPE", str(folder / "r.yaml")))
    arena, place = load_section(folder / "a.yaml", Arena, arena_overrides(overrides))
    lineup = Lineup(arena, place, str(folder / "out"), str)
    lineup.entries()
    return lineup


def test_arms_are_recipes_with_overrides(tmp_path: Path) -> None:
    lineup = built(tmp_path, GOOD + "seeds: [3, 4]\ncontrol: y\nset: {train.max_steps: 7}\n")
    entries = lineup.entries()
    assert [(e.arm, e.seed) for e in entries] == [("y", 3), ("x", 3), ("y", 4), ("x", 4)]
    assert [e.recipe.accumulate.policy for e in entries] == ["replace", "all"] * 2
    assert {e.recipe.train.max_steps for e in entries} == {7}
    assert entries[3].recipe.seed == 4 and entries[3].run.root == str(tmp_path / "out/runs/x/seed-4")
    assert [twin.root for twin in entries[3].run.twins] == [str(tmp_path / "out/runs/y/seed-4")]


def test_an_arm_may_start_from_another_recipe(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("name: o\ntasks: {source: jsonl, path: o.jsonl}\n")
    lineup = built(tmp_path, GOOD.replace("accumulate.policy: replace", f"recipe: {tmp_path / 'other.yaml'}"))
    assert [e.recipe.tasks.path for e in lineup.entries()] == ["t.jsonl", "o.jsonl"]


def test_equal_steps_and_tokens_are_the_control_s(tmp_path: Path) -> None:
    text = GOOD + "set: {train.max_steps: 7, train.max_tokens: 900}\n"
    for equal, values in (
        ("steps", (7, 7, None)),
        ("trained_tokens", (7, None, 900)),
        ("nothing", (7, None, 900)),
    ):
        for entry in built(tmp_path, f"{text}equal: {equal}\n").entries():
            train = entry.recipe.train
            assert (train.max_steps, train.dpo.max_steps, train.max_tokens) == values


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("replace", "repalce", "a.yaml:5: arms.y.accumulate.policy: accumulate.policy: String should match"),
        (
            "accumulate.policy",
            "acumulate.policy",
            "a.yaml:5: arms.y.acumulate.policy: acumulate: unknown key 'acumulate'",
        ),
        (
            "accumulate.policy: replace",
            "seed: 1",
            r"a.yaml:3: arms: y.seed cannot be set here: it is the arena's \(seeds\)",
        ),
        (
            "accumulate.policy: replace",
            "rounds: 1",
            r"arms: y.rounds cannot be set here: it is the arena's \(set.rounds\)",
        ),
        ("accumulate.policy: replace", "recipe: nope.yaml", "a.yaml:5: arms.y: nope.yaml: no such recipe"),
        (
            "accumulate.policy: replace",
            "train.kind: cpt",
            "a.yaml:5: arms.y: train.kind cpt trains on plain texts",
        ),
        ("  y: {accumulate.policy: replace}\n", "", "a.yaml:3: arms: Dictionary should have at least 2"),
        ("  x:", "  ../x:", "a.yaml:4: arms.../x"),
        ("  x:", "  y:", r"a.yaml:5: arms.y is there twice \(first in line 4\)"),
    ],
)  # fmt: skip
def test_errors_name_the_arm(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "set: {train.epoch: 1}",
            "a.yaml:6: set.train.epoch: train.epoch: unknown key 'epoch'; did you mean 'epochs'",
        ),
        ("seeds: [1, 1]", "a.yaml:6: seeds: a seed is there twice"),
        ("control: z", "a.yaml:6: control: no arm has this name. Arms: x, y"),
        ("budgt: {hours: 1}", "a.yaml:6: budgt: unknown key 'budgt'; did you mean 'budget'"),
        ("budget: {hours: 0}", "a.yaml:6: budget.hours: Input should be greater than 0"),
        ("equal: tokens", "a.yaml:6: equal: Input should be 'nothing'"),
        ("equal: steps", "a.yaml:6: equal: steps needs train.max_steps, which the control 'x' does not set"),
        ("equal: trained_tokens", "trained_tokens needs train.max_tokens"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built(tmp_path, f"{GOOD}{line}\n")


def test_contradicting_steps_are_refused(tmp_path: Path) -> None:
    text = (
        GOOD.replace("accumulate.policy: replace", "train.max_steps: 9")
        + "equal: steps\nset: {train.max_steps: 3}\n"
    )
    with pytest.raises(
        ConfigError, match="arms.y.train.max_steps: 9, but equal: steps gives every arm the control's 3"
    ):
        built(tmp_path, text)


def test_overrides_of_the_arena(tmp_path: Path) -> None:
    assert built(tmp_path, GOOD, "seeds=[7]", "budget.hours=2").arena.budget.hours == 2
    given = ("set.train.batch_size=4", "arms.y.method.samples=2", "set.method={name: direct}")
    more = built(tmp_path, GOOD + "set: {train.max_steps: 7}\n", *given)
    x, y = (entry.recipe for entry in more.entries())
    assert (x.train.max_steps, x.train.batch_size, x.method["samples"], y.method["samples"]) == (7, 4, 4, 2)
    assert y.accumulate.policy == "replace"
    with pytest.raises(
        ConfigError, match="--set set.train.epoch=1: set.train.epoch: train.epoch: unknown key"
    ):
        built(tmp_path, GOOD, "set.train.epoch=1")
    with pytest.raises(ConfigError, match="--set budget.hour=1: budget.hour: unknown key"):
        built(tmp_path, GOOD, "budget.hour=1")


@pytest.mark.parametrize("path", sorted(ARENAS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_arenas_are_right(path: Path) -> None:
    arena, place = load_section(path, Arena)
    from jobs.common import recipe_path

    assert len(Lineup(arena, place, "unused", recipe_path).entries()) == len(arena.arms) * len(arena.seeds)
    assert path.read_text().startswith("# ") and "\n# takes: " in path.read_text()
