"""A recipe book: what is made of what, how deep each item is, and the task that a goal in it makes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

from pipeline.ids import ID_CHARS, digest, unit_interval
from stages.environments.base import EnvTask, Split

MAX_COUNT = 9999  # the largest number in an action


class Recipe(NamedTuple):
    """`ingredients` are distinct (name, count) pairs. A name is an item or a family (any members)."""

    output: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    ingredients: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Book:
    """Recipes, base items (taken, not crafted), and families: disjoint sets of base items by name."""

    recipes: tuple[Recipe, ...]
    base: tuple[str, ...]
    families: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def order(self) -> tuple[dict[str, int], dict[str, Recipe]]:
        """The depth of every reachable name, and each craftable item's recipe of that depth.

        Base items and families have depth 0. Other items have the number of crafts along the longest path, by
        the recipe that makes it shortest; of several such recipes the smallest counts.
        """
        depth = dict.fromkeys((*self.base, *self.families), 0)
        best: dict[str, Recipe] = {}
        level, pending = 0, list(self.recipes)
        while True:
            level += 1
            ready: list[Recipe] = []
            later: list[Recipe] = []
            for recipe in pending:
                (ready if all(name in depth for name, _ in recipe.ingredients) else later).append(recipe)
            if not ready:
                return depth, best
            pending = later
            for recipe in ready:
                if depth.setdefault(recipe.output, level) == level:
                    best[recipe.output] = min(recipe, best.get(recipe.output, recipe))


def break_cycles(recipes: Sequence[Recipe]) -> set[str]:
    """Return the base items: all without a recipe, and enough others to make everything craftable.

    Of items that can only be made from each other, the one that most recipes use becomes a base item (in a
    tie, the first by name). The order of `recipes` does not matter.
    """
    used_by = Counter(name for r in recipes for name, _ in r.ingredients)
    base = set(used_by) - {r.output for r in recipes}
    while True:
        book = Book(tuple(r for r in recipes if r.output not in base), tuple(sorted(base)))
        reached = book.order[0]
        made_of: dict[str, set[str]] = {r.output: set() for r in book.recipes if r.output not in reached}
        if not made_of:
            return base
        for r in book.recipes:
            if r.output in made_of:
                made_of[r.output].update(name for name, _ in r.ingredients if name in made_of)
        needs = {item: _closure(item, made_of) for item in made_of}
        # Cycles that need no other cycle: each of their items needs exactly the items of the cycle.
        for cycle in {frozenset(n) for n in needs.values() if all(needs[other] == n for other in n)}:
            base.add(min(cycle, key=lambda name: (-used_by[name], name)))


def _closure(item: str, made_of: dict[str, set[str]]) -> set[str]:
    """Return everything that the item is made of, directly or indirectly."""
    reached: set[str] = set()
    todo = [item]
    while todo:
        new = made_of[todo.pop()] - reached
        reached |= new
        todo += new
    return reached


def split_of(name: str, *key: object) -> Split:
    """Return the split of a name by its hash: 80% train, 10% dev, 10% test. `key` seeds another partition."""
    place = unit_interval("crafting", *key, name)
    return "train" if place < 0.8 else "dev" if place < 0.9 else "test"


def needed(goal: str, best: Mapping[str, Recipe], depth: Mapping[str, int]) -> list[str]:
    """Return the items to be crafted for the goal, including it, each before its ingredients."""
    items, todo = {goal}, [goal]
    while todo:
        for name, _ in best[todo.pop()].ingredients:
            if name in best and name not in items:
                items.add(name)
                todo.append(name)
    return sorted(items, key=lambda name: (-depth[name], name))


def demand(
    goal: str, order: Iterable[str], best: Mapping[str, Recipe], held: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many of each name one goal takes, and how often each recipe of `order` (from `needed`) is
    followed, given what is `held`."""
    wanted, times = {goal: 1}, {}
    for item in order:
        recipe = best[item]
        missing = wanted.get(item, 0) - held.get(item, 0)
        times[item] = -(-missing // recipe.count) if missing > 0 else 0
        if times[item]:
            for name, count in recipe.ingredients:
                wanted[name] = wanted.get(name, 0) + count * times[item]
    return wanted, times


@dataclass(slots=True, frozen=True)
class Rules:
    """The options that shape a task."""

    distractors: int
    spare: int | None  # None: base items do not run out
    spoils: bool


def make_task(book: Book, goal: str, split: Split, world: str, rng: Random, rules: Rules) -> EnvTask | None:
    """Return the task to craft `goal`, with the part of the book that it needs in its spec.

    None if an action would need a number above MAX_COUNT. The spec holds lists wherever order shows in a
    text, so that equal specs (and so equal ids) have equal texts.
    """
    depth, best = book.order
    order = needed(goal, best, depth)
    wanted, _ = demand(goal, order, best, {})
    if max(wanted.values()) > MAX_COUNT:
        return None
    recipes = [best[item] for item in order]
    craftable = {*order, *book.base, *book.families}
    useful = {*wanted, *(m for family, members in book.families.items() if family in wanted for m in members)}
    tempting = [
        r
        for r in book.recipes
        if r not in recipes
        and r.output != goal
        and all(name in craftable for name, _ in r.ingredients)
        and any(name in useful for name, _ in r.ingredients)
    ]
    shown = recipes + rng.sample(tempting, min(rules.distractors, len(tempting)))
    rng.shuffle(shown)
    named = {name for recipe in shown for name, _ in recipe.ingredients}
    families = {family: members for family, members in book.families.items() if family in named}
    base = sorted(named.intersection(book.base).union(*families.values()))
    stock = None
    if rules.spare is not None:
        # A plan takes a family's first member.
        first = {members[0]: wanted.get(family, 0) for family, members in families.items()}
        stock = [wanted.get(name, 0) + first.get(name, 0) + rules.spare for name in base]
    spec: dict[str, Any] = {
        "world": world,
        "goal": goal,
        "recipes": [[r.output, r.count, [list(pair) for pair in r.ingredients]] for r in shown],
        "families": [[family, list(members)] for family, members in sorted(families.items())],
        "base": base,
        "stock": stock,
        "spoils": rules.spoils,
    }
    return EnvTask(digest(["crafting", spec])[:ID_CHARS], split, spec, (f"depth:{depth[goal]}",))
