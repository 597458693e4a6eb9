"""A task prepared for play: recipes by output, the text that shows them, and the planner."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from stages.environments.crafting.book import Book, Recipe, demand, needed

Share = tuple[str, int]  # a family's member, and how many of it


class Puzzle:
    """What stays the same through a game. `milestones` are the items whose first making counts."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """`spec` is that of an EnvTask from book.make_task."""
        self.goal: str = spec["goal"]
        self.spoils: bool = spec["spoils"]
        self.base: tuple[str, ...] = tuple(spec["base"])
        self.families: dict[str, tuple[str, ...]] = {
            name: tuple(members) for name, members in spec["families"]
        }
        self.stock: dict[str, int] | None = None
        if spec["stock"] is not None:
            self.stock = dict(zip(self.base, spec["stock"], strict=True))
        self.recipes = tuple(
            Recipe(output, count, tuple((name, n) for name, n in used))
            for output, count, used in spec["recipes"]
        )
        self.by_output: dict[str, list[Recipe]] = {}
        for recipe in self.recipes:
            self.by_output.setdefault(recipe.output, []).append(recipe)
        depth, self.best = Book(self.recipes, self.base, self.families).order
        self.order = needed(self.goal, self.best, depth)
        self.milestones = frozenset(self.order) - {self.goal}
        self.base_names = frozenset(self.base)
        self.known = self.base_names | self.by_output.keys()

    def describe(self) -> str:
        """Return the first observation: recipes, families, base items (counted if scarce) and the goal."""
        lines = ["Recipes:"]
        for output, count, used in self.recipes:
            parts = (f"{n} {'any ' if name in self.families else ''}{name}" for name, n in used)
            lines.append(f"{count} {output} = {' + '.join(parts)}")
        lines += [f"Any {family}: {' or '.join(members)}" for family, members in self.families.items()]
        base = self.base if self.stock is None else counted(self.stock)
        return "\n".join([*lines, f"Base items: {', '.join(base)}", f"Goal: {self.goal}"])

    def difference(self, recipe: Recipe, times: int, given: Mapping[str, int]) -> str:
        """Describe what is wrong with `given` for following the recipe `times` times, or return ''.

        The members of a family may be mixed.
        """
        if given == {name: n * times for name, n in recipe.ingredients}:
            return ""
        whole = f"{recipe.count * times} {recipe.output}"
        rest = dict(given)
        # Families come last and take what is left.
        for name, n in sorted(recipe.ingredients, key=lambda pair: pair[0] in self.families):
            wanted, members = n * times, self.families.get(name)
            got = sum(rest.pop(member, 0) for member in members) if members else rest.get(name, 0)
            # A surplus may stand for a family of the same recipe.
            shared = any(name in self.families.get(other, ()) for other, _ in recipe.ingredients)
            if got < wanted or (got > wanted and not shared):
                what = f"any {name} ({' or '.join(members)})" if members else name
                return f"{whole} takes {wanted} {what}, not {got}."
            if not members:
                rest[name] = got - wanted
        extra = next((name for name, left in rest.items() if left), None)
        return f"{recipe.output} takes no {extra}." if extra else ""

    def plan(self, inventory: Mapping[str, int], stock: Mapping[str, int] | None) -> list[str] | None:
        """Return actions to the goal, or None if the remaining items do not suffice.

        Exact as long as each item has one recipe.
        """
        wanted, times = demand(self.goal, self.order, self.best, inventory)
        shares = self._members(wanted, inventory, stock)
        if shares is None:
            return None
        have, actions = dict(inventory), []
        for item in reversed(self.order):
            if not times[item]:
                continue
            recipe, used = self.best[item], Counter[str]()
            for name, n in recipe.ingredients:
                n *= times[item]
                for member, k in _take(shares[name], n) if name in self.families else [(name, n)]:
                    used[member] += k
            for name, n in used.items():
                if have.get(name, 0) < n:
                    actions.append(f"get {n - have.get(name, 0)} {name}")
                    have[name] = n
                have[name] -= n
            made = recipe.count * times[item]
            have[item] = have.get(item, 0) + made
            actions.append(f"craft {made} {item} using {', '.join(counted(used))}")
        return actions

    def _members(
        self, wanted: Mapping[str, int], inventory: Mapping[str, int], stock: Mapping[str, int] | None
    ) -> dict[str, list[Share]] | None:
        """Choose members to stand for each family, held ones first. None if base items do not suffice."""
        # Held beyond what is wanted by name; then what can still be taken beyond it.
        free = {name: inventory.get(name, 0) - wanted.get(name, 0) for name in self.base}
        left = {name: min(free[name], 0) + (10**9 if stock is None else stock[name]) for name in self.base}
        if min(left.values(), default=0) < 0:
            return None
        shares: dict[str, list[Share]] = {}
        for family, members in self.families.items():
            missing, shares[family] = wanted.get(family, 0), []
            for source in (free, left):
                for member in members:
                    if (n := min(missing, source[member])) > 0:
                        shares[family].append((member, n))
                        missing -= n
            if missing:
                return None
        return shares


def counted(items: Mapping[str, int]) -> list[str]:
    """Return "2 bokir" for each item."""
    return [f"{n} {name}" for name, n in items.items()]


def _take(shares: list[Share], count: int) -> list[Share]:
    """Remove `count` items from the front of `shares` and return them."""
    taken = []
    while count:
        member, n = shares.pop(0)
        if n > count:
            shares.insert(0, (member, n - count))
        taken.append((member, min(n, count)))
        count -= taken[-1][1]
    return taken
