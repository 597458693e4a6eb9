"""Circles in a recipe book (ingot to block, block to ingots): which item of each is to be had without crafting."""

from collections import Counter
from collections.abc import Sequence

from stages.environments.crafting.book import Book, Recipe


def break_cycles(recipes: Sequence[Recipe]) -> set[str]:
    """Return the base items: all without a recipe, and as many others as it takes for everything to be craftable.

    Of items that can only be made of each other, that becomes a base item which most recipes use; by name where two are even. The
    order of `recipes` does not matter.
    """
    used_by = Counter(name for r in recipes for name, _ in r.ingredients)
    outputs = {r.output for r in recipes}
    base = set(used_by) - outputs
    while True:
        book = Book(tuple(r for r in recipes if r.output not in base), tuple(sorted(base)))
        reached = book.order[0]
        stuck = {r.output for r in book.recipes if r.output not in reached}
        if not stuck:
            return base
        takes: dict[str, set[str]] = {item: set() for item in stuck}
        for r in book.recipes:
            if r.output in stuck:
                takes[r.output].update(name for name, _ in r.ingredients if name in stuck)
        needs = {item: _closure(item, takes) for item in stuck}
        # Circles that need no other circle: each of their items needs all of them and nothing else that is stuck.
        circles = {
            frozenset(below) for below in needs.values() if all(needs[other] == below for other in below)
        }
        for circle in circles:
            base.add(min(circle, key=lambda name: (-used_by[name], name)))


def _closure(item: str, takes: dict[str, set[str]]) -> set[str]:
    """Return all that the item is made of, directly or not."""
    found: set[str] = set()
    todo = [item]
    while todo:
        for name in takes[todo.pop()] - found:
            found.add(name)
            todo.append(name)
    return found
