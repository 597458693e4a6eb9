"""Recipe files of the user's: recipes.json and items.json of minecraft-data, or a plain YAML or JSON list.

    - {output: stone axe, count: 1, ingredients: {cobble: 3, stick: 2}}

Neither the order of entries nor that of keys changes a task.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.errors import DataError, suggest
from pipeline.ids import ID_CHARS, digest, unit_interval
from stages.environments.base import EnvTask, Split
from stages.environments.crafting.book import MAX_COUNT, Book, Recipe, Rules, make_task
from stages.environments.crafting.cycles import break_cycles
from stages.environments.crafting.names import split_of

_NAME = re.compile(r"[a-z](?!.* using )[a-z0-9' -]{0,38}[a-z0-9]|[a-z]")
_NAME_FORM = "a name of at most 40 letters, digits, spaces, hyphens and apostrophes, beginning with a letter, without the word using"
_SHOWN = 12  # names in one note


class _Entry(BaseModel):
    """One recipe of the plain form."""

    model_config = ConfigDict(extra="forbid")
    output: str
    count: int = Field(1, ge=1, le=MAX_COUNT)
    ingredients: dict[str, int] = Field(min_length=1)

    @field_validator("ingredients", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return (
            dict(Counter(value))
            if isinstance(value, list) and all(isinstance(v, str) for v in value)
            else value
        )

    def recipe(self) -> Recipe:
        """Return the recipe. Raises ValueError for a name or number that no action could hold."""
        used: Counter[str] = Counter()
        for name, n in self.ingredients.items():
            if not 1 <= n <= MAX_COUNT:
                raise ValueError(f"{n} {name}: expected a count from 1 to {MAX_COUNT}")
            used[_name(name)] += n
        return Recipe(_name(self.output), self.count, tuple(sorted(used.items())))


def read_book(recipes_file: str, items_file: str | None, base: list[str] | None) -> tuple[Book, list[str]]:
    """Return the book in the files, and notes on what was left out of it.

    `base` names the items that can be taken; without it these are the items that have no recipe, and one item of each circle of recipes
    (the one that most recipes use). Raises DataError naming file and entry.
    """
    data = _load(recipes_file)
    if isinstance(data, list):
        if items_file is not None:
            raise DataError(
                f"{items_file}: a plain list of recipes ({recipes_file}) has its names already; leave items_file out"
            )
        recipes = [_plain(entry, f"{recipes_file}: entry {i}") for i, entry in enumerate(data, 1)]
    elif isinstance(data, dict):
        if items_file is None:
            raise DataError(
                f"{recipes_file}: maps item ids to recipes, as minecraft-data does; set items_file to the items.json beside it"
            )
        names = _item_names(items_file)
        recipes = [
            r
            for key, entries in data.items()
            for r in _of_item(key, entries, names, recipes_file, items_file)
        ]
    else:
        raise DataError(
            f"{recipes_file}: expected a list of recipes, or a mapping from item ids to recipes, got {type(data).__name__}"
        )
    if not recipes:
        raise DataError(f"{recipes_file}: there is no recipe in it")
    unique = sorted(set(recipes))
    if base is not None:
        base = _known_base(base, unique, recipes_file)
    return _tidy(unique, base)


def file_tasks(
    book: Book, split: Split, seed: int, depth: tuple[int, int], rules: Rules
) -> Iterator[EnvTask]:
    """Yield the tasks of a split: the goals of these depths whose names belong to it, in a seeded order. Raises DataError if no split has one."""
    world = digest(["crafting book", [tuple(r) for r in book.recipes], book.base])[:ID_CHARS]
    levels = book.order[0]
    goals = [name for name, level in levels.items() if depth[0] <= level <= depth[1]]
    if not goals:
        there = ", ".join(
            f"{n} of depth {level}" for level, n in sorted(Counter(v for v in levels.values() if v).items())
        )
        raise DataError(
            f"the recipe file has no goal of depth {depth[0]} to {depth[1]}; there are: {there or 'none'}"
        )
    for goal in sorted(goals, key=lambda name: (unit_interval("crafting order", seed, name), name)):
        if split_of(goal, seed) == split:
            task = make_task(book, goal, split, world, Random(f"{seed}/{world}/{goal}"), rules)
            if task is not None:
                yield task


def _tidy(recipes: list[Recipe], base: list[str] | None) -> tuple[Book, list[str]]:
    """Return a book without circles, all of whose items can be had, and what was done for that."""
    notes = []
    if base is None:
        taken = break_cycles(recipes)
        outputs = {r.output for r in recipes}
        if circles := sorted(taken & outputs):
            notes.append(
                f"{len(circles)} circles of recipes broken; these items can be taken and not crafted: {_listed(circles)}"
            )
    else:
        taken = set(base)
    kept = [r for r in recipes if r.output not in taken]
    depth = Book(tuple(kept), tuple(sorted(taken))).order[0]
    if unreachable := sorted({r.output for r in kept if r.output not in depth}):
        notes.append(
            f"{len(unreachable)} items cannot be reached from the base items and are left out: {_listed(unreachable)}"
        )
    straight = [
        r for r in kept if all(name in depth and depth[name] < depth[r.output] for name, _ in r.ingredients)
    ]
    if left_out := len([r for r in kept if r.output in depth]) - len(straight):
        notes.append(
            f"{left_out} recipes are left out that make an item of something as deep as itself or out of reach"
        )
    return Book(tuple(straight), tuple(sorted(taken))), notes


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _known_base(base: list[str], recipes: list[Recipe], path: str) -> list[str]:
    there = {name for r in recipes for name in (r.output, *dict(r.ingredients))}
    try:
        cleaned = [_name(name) for name in base]
    except ValueError as e:
        raise DataError(f"base: {e}") from None
    for name in cleaned:
        if name not in there:
            raise DataError(f"{path}: has no item {name!r}, which `base` names.{suggest(name, there)}")
    return cleaned


def _load(path: str) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return yaml.safe_load(text) if path.endswith((".yaml", ".yml")) else json.loads(text)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {e}") from None
    except json.JSONDecodeError as e:
        raise DataError(f"{path}:{e.lineno}: not valid JSON: {e.msg} (column {e.colno})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise DataError(f"{path}: not valid: {e}") from None


def _name(text: str) -> str:
    name = " ".join(text.lower().replace("_", " ").split())
    if not _NAME.fullmatch(name):
        raise ValueError(f"{text[:60]!r}: expected {_NAME_FORM}")
    return name


def _plain(entry: Any, where: str) -> Recipe:
    if isinstance(entry, dict) and isinstance(entry.get("output"), str):
        where = f"{where} (output {entry['output']!r})"
    try:
        return _Entry.model_validate(entry).recipe()
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        at = "".join(f"{part}: " for part in first["loc"])
        raise DataError(
            f"{where}: {at}{first['msg']}; expected {{output: NAME, count: NUMBER, ingredients: {{NAME: NUMBER}}}}"
        ) from None
    except ValueError as e:
        raise DataError(f"{where}: {e}") from None


def _item_names(path: str) -> dict[int, str]:
    data = _load(path)
    if not isinstance(data, list):
        raise DataError(f"{path}: expected a list of {{id, name}}, got {type(data).__name__}")
    names = {}
    for i, entry in enumerate(data, 1):
        if not (
            isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("name"), str)
        ):
            raise DataError(
                f"{path}: entry {i}: expected a mapping with a number `id` and a text `name`, got {str(entry)[:80]}"
            )
        try:
            names[entry["id"]] = _name(entry["name"])
        except ValueError as e:
            raise DataError(f"{path}: entry {i}: name {e}") from None
    return names


def _of_item(key: str, entries: Any, names: dict[int, str], path: str, items_file: str) -> list[Recipe]:
    where = f"{path}: item {key}"
    if not isinstance(entries, list):
        raise DataError(f"{where}: expected a list of recipes, got {type(entries).__name__}")
    return [
        _shaped_or_not(entry, f"{where}: recipe {i}", names, items_file) for i, entry in enumerate(entries, 1)
    ]


def _shaped_or_not(entry: Any, where: str, names: dict[int, str], items_file: str) -> Recipe:
    def name(item: Any, what: str) -> str:
        if type(item) is not int:
            raise DataError(
                f"{where}: {what} is {str(item)[:80]}; expected an item's number (minecraft-data from version 1.13 on has these)"
            )
        if item not in names:
            raise DataError(
                f"{where}: {what} is item {item}, which {items_file} does not have; are both files of one version?"
            )
        return names[item]

    if not isinstance(entry, dict) or not isinstance(entry.get("result"), dict):
        raise DataError(
            f"{where}: expected a mapping with `result` and `inShape` or `ingredients`, got {str(entry)[:80]}"
        )
    rows = entry.get("inShape", [entry.get("ingredients")])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise DataError(f"{where}: expected `inShape` (a list of lists) or `ingredients` (a list)")
    used = Counter(name(item, "an ingredient") for row in rows for item in row if item is not None)
    count = entry["result"].get("count", 1)
    if type(count) is not int or not 1 <= count <= MAX_COUNT or not used:
        raise DataError(
            f"{where}: expected at least one ingredient, and a result count from 1 to {MAX_COUNT} (it is {count})"
        )
    return Recipe(name(entry["result"].get("id"), "the result"), count, tuple(sorted(used.items())))
