"""Recipe files of the user's own: minecraft-data's recipes.json and items.json, or a plain YAML or JSON list.

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
from stages.environments.crafting.book import (
    MAX_COUNT,
    Book,
    Recipe,
    Rules,
    break_cycles,
    make_task,
    split_of,
)

_NAME = re.compile(r"[a-z](?!.* using )[a-z0-9' -]{0,38}[a-z0-9]|[a-z]")
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
        names = isinstance(value, list) and all(isinstance(v, str) for v in value)
        return dict(Counter(value)) if names else value

    def recipe(self) -> Recipe:
        """Return the recipe. Raises ValueError for a name or number that no action could contain."""
        used: Counter[str] = Counter()
        for name, n in self.ingredients.items():
            if not 1 <= n <= MAX_COUNT:
                raise ValueError(f"{n} {name}: expected a count from 1 to {MAX_COUNT}")
            used[_name(name)] += n
        return Recipe(_name(self.output), self.count, tuple(sorted(used.items())))


def read_book(recipes_file: str, items_file: str | None, base: list[str] | None) -> tuple[Book, list[str]]:
    """Return the book in the files, and notes on what was left out of it.

    `base` names the base items; by default these are the items without a recipe, and of each cycle of recipes
    the item that most recipes use. Raises DataError naming file and entry.
    """
    data = _load(recipes_file)
    if isinstance(data, list):
        if items_file is not None:
            raise DataError(f"{items_file}: a plain list of recipes has its own names; leave items_file out")
        recipes = [_plain(entry, f"{recipes_file}: entry {i}") for i, entry in enumerate(data, 1)]
    elif isinstance(data, dict):
        if items_file is None:
            raise DataError(f"{recipes_file}: has item ids; set items_file to the items.json beside it")
        names = _item_names(items_file)
        recipes = []
        for key, entries in data.items():
            where = f"{recipes_file}: item {key}"
            if not isinstance(entries, list):
                raise DataError(f"{where}: expected a list of recipes, got {type(entries).__name__}")
            for i, entry in enumerate(entries, 1):
                recipes.append(_numbered(entry, f"{where}: recipe {i}", names, items_file))
    else:
        expected = "expected a list of recipes, or a mapping from item ids to recipes"
        raise DataError(f"{recipes_file}: {expected}, got {type(data).__name__}")
    if not recipes:
        raise DataError(f"{recipes_file}: contains no recipe")
    unique = sorted(set(recipes))
    return _tidy(unique, None if base is None else _known_base(base, unique, recipes_file))


def file_tasks(
    book: Book, split: Split, seed: int, depth: tuple[int, int], rules: Rules
) -> Iterator[EnvTask]:
    """Yield a task for each goal of these depths whose name belongs to the split, in a seeded order.

    Raises DataError if the book has no goal of these depths.
    """
    world = digest(["crafting book", [tuple(r) for r in book.recipes], book.base])[:ID_CHARS]
    levels = book.order[0]
    goals = [name for name, level in levels.items() if depth[0] <= level <= depth[1]]
    if not goals:
        counts = sorted(Counter(level for level in levels.values() if level).items())
        there = ", ".join(f"{n} of depth {level}" for level, n in counts) or "none"
        raise DataError(f"the recipe file has no goal of depth {depth[0]} to {depth[1]}; there are: {there}")
    for goal in sorted(goals, key=lambda name: (unit_interval("crafting order", seed, name), name)):
        if split_of(goal, seed) == split:
            task = make_task(book, goal, split, world, Random(f"{seed}/{world}/{goal}"), rules)
            if task is not None:
                yield task


def _tidy(recipes: list[Recipe], base: set[str] | None) -> tuple[Book, list[str]]:
    """Return a book without cycles or unreachable items, and notes on what was removed for that."""
    notes = []
    if base is None:
        base = break_cycles(recipes)
        if broken := sorted(base & {r.output for r in recipes}):
            notes.append(f"{len(broken)} recipe cycles broken by these base items: {_listed(broken)}")
    kept = [r for r in recipes if r.output not in base]
    depth = Book(tuple(kept), tuple(sorted(base))).order[0]
    if unreachable := sorted({r.output for r in kept if r.output not in depth}):
        notes.append(f"{len(unreachable)} items left out as unreachable: {_listed(unreachable)}")
    reachable = [r for r in kept if r.output in depth]
    usable = [r for r in reachable if all(depth.get(n, 10**9) < depth[r.output] for n, _ in r.ingredients)]
    if left_out := len(reachable) - len(usable):
        notes.append(f"{left_out} recipes left out: an ingredient is unreachable or as deep as the output")
    return Book(tuple(usable), tuple(sorted(base))), notes


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _known_base(base: list[str], recipes: list[Recipe], path: str) -> set[str]:
    there = {name for r in recipes for name in (r.output, *dict(r.ingredients))}
    try:
        cleaned = [_name(name) for name in base]
    except ValueError as e:
        raise DataError(f"base: {e}") from None
    for name in cleaned:
        if name not in there:
            raise DataError(f"{path}: has no item {name!r}, which `base` names.{suggest(name, there)}")
    return set(cleaned)


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
        raise ValueError(
            f"{text[:60]!r}: expected a name of at most 40 letters, digits, spaces, hyphens and apostrophes, "
            "starting with a letter, without the word using"
        )
    return name


def _plain(entry: Any, where: str) -> Recipe:
    if isinstance(entry, dict) and isinstance(entry.get("output"), str):
        where = f"{where} (output {entry['output']!r})"
    try:
        return _Entry.model_validate(entry).recipe()
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        at = "".join(f"{part}: " for part in first["loc"])
        form = "{output: NAME, count: NUMBER, ingredients: {NAME: NUMBER}}"
        raise DataError(f"{where}: {at}{first['msg']}; expected {form}") from None
    except ValueError as e:
        raise DataError(f"{where}: {e}") from None


def _item_names(path: str) -> dict[int, str]:
    data = _load(path)
    if not isinstance(data, list):
        raise DataError(f"{path}: expected a list of {{id, name}}, got {type(data).__name__}")
    names = {}
    for i, entry in enumerate(data, 1):
        where = f"{path}: entry {i}"
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if type(number) is not int or not isinstance(name, str):
            expected = "expected a mapping with a number `id` and a text `name`"
            raise DataError(f"{where}: {expected}, got {str(entry)[:80]}")
        try:
            names[number] = _name(name)
        except ValueError as e:
            raise DataError(f"{where}: name {e}") from None
    return names


def _numbered(entry: Any, where: str, names: dict[int, str], items_file: str) -> Recipe:
    """Return the recipe of one of minecraft-data's entries, shaped or not."""

    def name(item: Any, what: str) -> str:
        if type(item) is not int:
            expected = "expected an item's number, as in minecraft-data from version 1.13 on"
            raise DataError(f"{where}: {what} is {str(item)[:80]}; {expected}")
        if item not in names:
            problem = f"is item {item}, which {items_file} lacks; are both files of one version?"
            raise DataError(f"{where}: {what} {problem}")
        return names[item]

    if not isinstance(entry, dict) or not isinstance(entry.get("result"), dict):
        expected = "expected a mapping with `result` and `inShape` or `ingredients`"
        raise DataError(f"{where}: {expected}, got {str(entry)[:80]}")
    rows = entry.get("inShape", [entry.get("ingredients")])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise DataError(f"{where}: expected `inShape` (a list of lists) or `ingredients` (a list)")
    used = Counter(name(item, "an ingredient") for row in rows for item in row if item is not None)
    count = entry["result"].get("count", 1)
    if type(count) is not int or not 1 <= count <= MAX_COUNT or not used:
        expected = f"expected at least one ingredient, and a result count from 1 to {MAX_COUNT}"
        raise DataError(f"{where}: {expected}, got {count}")
    return Recipe(name(entry["result"].get("id"), "the result"), count, tuple(sorted(used.items())))
