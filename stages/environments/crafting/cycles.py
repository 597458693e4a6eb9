"""Cycles in a recipe book (ingot to block, block to ingots), and the base items that break them."""

from collections import Counter
from collections.abc import Sequence

from stages.environments.crafting.book import Book, Recipe


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
