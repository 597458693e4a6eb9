"""A user's own recipes: both forms, circles, what is left out, and errors that name file and entry."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from stages.environments import SPLITS
from stages.environments.crafting.book import Recipe
from stages.environments.crafting.recipe_files import read_book
from tests.stages.environments.worlds import crafting

PLAIN = [
    {"output": "plank", "count": 4, "ingredients": {"log": 1}},
    {"output": "stick", "count": 4, "ingredients": {"plank": 2}},
    {"output": "Iron_Ingot", "count": 9, "ingredients": ["iron block"]},
    {"output": "iron block", "ingredients": {"iron ingot": 9}},
    {"output": "iron ingot", "ingredients": {"iron nugget": 9}},
    {"output": "iron nugget", "count": 9, "ingredients": {"iron ingot": 1}},
    {"output": "pick", "ingredients": ["iron ingot", "stick", "iron ingot", "iron ingot", "stick"]},
    {"output": "red bed", "ingredients": {"red bed": 1, "dye": 1}},
]
ITEMS = [
    {"id": i, "name": name, "stackSize": 64}
    for i, name in enumerate(["air", "oak_log", "oak_planks", "stick", "crafting_table"])
]
MINECRAFT = {
    "2": [{"ingredients": [1], "result": {"id": 2, "count": 4}}],
    "3": [{"inShape": [[2], [2]], "result": {"id": 3, "count": 4}}],
    "4": [{"inShape": [[2, 2], [2, None], [None, 2]], "result": {"id": 4, "count": 1}}],
}


def written(folder: Path, data: Any, name: str = "recipes.json") -> str:
    path = folder / name
    path.write_text(json.dumps(data) if name.endswith("json") else yaml.safe_dump(data))
    return str(path)


@pytest.mark.parametrize("name", ["recipes.json", "recipes.yaml"])
def test_a_plain_list(tmp_path: Path, name: str) -> None:
    book, notes = read_book(written(tmp_path, PLAIN, name), None, None)
    assert book.base == ("dye", "iron ingot", "log", "red bed")
    assert set(book.recipes) == {
        Recipe("plank", 4, (("log", 1),)),
        Recipe("stick", 4, (("plank", 2),)),
        Recipe("iron block", 1, (("iron ingot", 9),)),
        Recipe("iron nugget", 9, (("iron ingot", 1),)),
        Recipe("pick", 1, (("iron ingot", 3), ("stick", 2))),
    }
    assert notes == ["2 recipe cycles broken by these base items: iron ingot, red bed"]


def test_the_base_items_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    book, notes = read_book(path, None, ["log", "iron_nugget"])
    assert {r.output for r in book.recipes} == {"plank", "stick", "iron block", "iron ingot", "pick"}
    assert notes == [
        "1 items left out as unreachable: red bed",
        "1 recipes left out: an ingredient is unreachable or as deep as the output",
    ]
    with pytest.raises(DataError, match="no item 'lgo', which `base` names. Did you mean 'log'?"):
        read_book(path, None, ["lgo"])


def test_a_recipe_may_mix_reachable_and_unreachable_ingredients(tmp_path: Path) -> None:
    recipes = [
        {"output": "a", "ingredients": {"log": 1, "ore": 1}},
        {"output": "b", "ingredients": {"log": 1}},
    ]
    book, notes = read_book(written(tmp_path, recipes), None, ["log"])
    assert book.recipes == (Recipe("b", 1, (("log", 1),)),)
    assert notes == ["1 items left out as unreachable: a"]


def test_recipes_of_minecraft_data(tmp_path: Path) -> None:
    book, notes = read_book(written(tmp_path, MINECRAFT), written(tmp_path, ITEMS, "items.json"), None)
    assert notes == [] and book.base == ("oak log",)
    assert set(book.recipes) == {
        Recipe("oak planks", 4, (("oak log", 1),)),
        Recipe("stick", 4, (("oak planks", 2),)),
        Recipe("crafting table", 1, (("oak planks", 4),)),
    }


@pytest.mark.parametrize(
    ("recipes", "items", "said"),
    [
        ([], None, "recipes.json: contains no recipe"),
        (7, None, "recipes.json: expected a list of recipes, or a mapping from item ids to recipes, got int"),
        (
            [{"output": "a", "ingredients": {"b": 1}}, {"output": "a"}],
            None,
            "recipes.json: entry 2 (output 'a'): ingredients: Field required",
        ),
        ([{"output": "a", "ingredients": {}}], None, "entry 1 (output 'a'): ingredients: "),
        (
            [{"output": "a", "ingredients": {"b": 0}}],
            None,
            "entry 1 (output 'a'): 0 b: expected a count from 1 to 9999",
        ),
        ([{"output": "a", "count": -1, "ingredients": {"b": 1}}], None, "entry 1 (output 'a'): count: "),
        (
            [{"output": "a, b", "ingredients": {"b": 1}}],
            None,
            "entry 1 (output 'a, b'): 'a, b': expected a name of at most 40 letters",
        ),
        ([{"output": "a using b", "ingredients": {"b": 1}}], None, "without the word using"),
        ([{"output": "a", "ingredients": {"b": 1}, "time": 3}], None, "entry 1 (output 'a'): time: "),
        (["a"], None, "recipes.json: entry 1: "),
        ([{"output": "a", "ingredients": {"b": 1}}], ITEMS, "items.json: a plain list of recipes"),
        (MINECRAFT, None, "set items_file to the items.json beside it"),
        (MINECRAFT, {"1": "x"}, "items.json: expected a list of {id, name}, got dict"),
        (MINECRAFT, [{"id": "1", "name": "x"}], "items.json: entry 1: expected a mapping with a number `id`"),
        (MINECRAFT, ITEMS[:3], "recipes.json: item 3: recipe 1: the result is item 3, which"),
        (
            {"2": [{"ingredients": [{"id": 1, "metadata": 3}], "result": {"id": 2}}]},
            ITEMS,
            "item 2: recipe 1: an ingredient is {'id': 1, 'metadata': 3}; expected an item's number",
        ),
        ({"2": {"result": {}}}, ITEMS, "recipes.json: item 2: expected a list of recipes, got dict"),
        ({"2": [{"ingredients": [1]}]}, ITEMS, "item 2: recipe 1: expected a mapping with `result`"),
        (
            {"2": [{"result": {"id": 2}}]},
            ITEMS,
            "item 2: recipe 1: expected `inShape` (a list of lists) or `ingredients` (a list)",
        ),
        (
            {"2": [{"ingredients": [], "result": {"id": 2}}]},
            ITEMS,
            "item 2: recipe 1: expected at least one ingredient",
        ),
    ],
)
def test_errors_name_file_and_entry(tmp_path: Path, recipes: Any, items: Any, said: str) -> None:
    items_file = None if items is None else written(tmp_path, items, "items.json")
    with pytest.raises(DataError) as e:
        read_book(written(tmp_path, recipes), items_file, None)
    assert said in str(e.value) and "Recipe(" not in str(e.value)


def test_a_file_that_is_not_there_or_broken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.json: no such file"):
        read_book(str(tmp_path / "nowhere.json"), None, None)
    (tmp_path / "torn.json").write_text('[{"output": "a",\n "ingred')
    with pytest.raises(DataError, match="torn.json:2: not valid JSON"):
        read_book(str(tmp_path / "torn.json"), None, None)
    (tmp_path / "torn.yaml").write_text("- {output: a")
    with pytest.raises(DataError, match="torn.yaml: not valid"):
        read_book(str(tmp_path / "torn.yaml"), None, None)


def file_of(folder: Path, seed: int, items: int = 60) -> list[dict[str, Any]]:
    """Write random recipes, with circles and several recipes for an item, and return them."""
    rng = random.Random(seed)
    names = [f"item {i}" for i in range(items)]
    return [
        {
            "output": rng.choice(names),
            "count": rng.randint(1, 2),
            "ingredients": {n: rng.randint(1, 2) for n in rng.sample(names, rng.randint(1, 3))},
        }
        for _ in range(int(items * 1.2))
    ]


@given(st.integers(0, 2**32), st.booleans())
def test_any_file_gives_tasks_that_can_be_solved_and_its_order_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, seed: int, scarce: bool
) -> None:
    folder = tmp_path_factory.mktemp("recipes")
    entries = file_of(folder, seed)
    options = {"source": "file", "depth": [1, 6], "scarce": scarce, "seed": seed}
    env = crafting(recipes_file=written(folder, entries), **options)
    tasks = {split: list(env.tasks(split)) for split in SPLITS}
    for split in SPLITS:
        for task in tasks[split]:
            env.reset(task)
            steps = [env.step(action) for action in env.oracle()]
            assert steps[-1].reward == 1 and all(s.info["executed"] for s in steps)
    goals = [t.spec["goal"] for split in SPLITS for t in tasks[split]]
    assert goals and len(set(goals)) == len(goals)
    random.Random(seed).shuffle(entries)
    shuffled = [{**e, "ingredients": dict(reversed(e["ingredients"].items()))} for e in entries]
    env = crafting(recipes_file=written(folder, shuffled, "other.json"), **options)
    assert {split: list(env.tasks(split)) for split in SPLITS} == tasks


def test_playing_does_not_take_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    env = crafting(source="file", recipes_file=path, tasks={"train": 1})
    task = next(t for split in SPLITS for t in env.tasks(split))
    Path(path).unlink()
    elsewhere = crafting(source="file", recipes_file=path)
    assert elsewhere.reset(task) == env.reset(task) and elsewhere.oracle() == env.oracle()


def test_no_goal_of_the_depths_asked_for(tmp_path: Path) -> None:
    env = crafting(source="file", recipes_file=written(tmp_path, PLAIN), depth=[5, 6])
    with pytest.raises(
        DataError, match="no goal of depth 5 to 6; there are: 3 of depth 1, 1 of depth 2, 1 of depth 3"
    ):
        list(env.tasks("train"))
    assert "iron ingot" in env.notes()[0]
