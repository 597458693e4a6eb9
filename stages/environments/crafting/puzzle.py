"""One task made ready to be played: recipes by what they make, the text that shows them, and the planner."""

from collections.abc import Mapping
from typing import Any

from stages.environments.crafting.book import Book, Recipe, demand, needed


class Puzzle:
    """What stays the same through a game. `milestones` are the items on the way whose first making counts."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """`spec` is that of an EnvTask; see book.make_task."""
        self.goal: str = spec["goal"]
        self.families: dict[str, tuple[str, ...]] = {
            family: tuple(members) for family, members in spec["families"]
        }
        self.base: tuple[str, ...] = tuple(spec["base"])
        self.stock: dict[str, int] | None = (
            None if spec["stock"] is None else dict(zip(self.base, spec["stock"], strict=True))
        )
        self.spoils: bool = spec["spoils"]
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
        """Return the first observation: recipes, families, base items (with how many there are, if they run out) and the goal."""
        lines = ["Recipes:"]
        for output, count, used in self.recipes:
            lines.append(
                f"{count} {output} = {' + '.join(f'{n} any {x}' if x in self.families else f'{n} {x}' for x, n in used)}"
            )
        lines += [f"Any {family}: {' or '.join(members)}" for family, members in self.families.items()]
        base = self.base if self.stock is None else counted(self.stock)
        lines += [f"Base items: {', '.join(base)}", f"Goal: {self.goal}"]
        return "\n".join(lines)

    def makes(self, recipe: Recipe, times: int, given: Mapping[str, int]) -> bool:
        """Tell whether `given` is exactly what following the recipe so many times takes; families may be mixed."""
        if len(given) == len(recipe.ingredients) and all(
            given.get(name) == n * times for name, n in recipe.ingredients
        ):
            return True
        rest = dict(given)
        for name, n in recipe.ingredients:
            if name not in self.families:
                rest[name] = rest.get(name, 0) - n * times
                if rest[name] < 0:
                    return False
        for name, n in recipe.ingredients:
            if (
                name in self.families
                and sum(rest.pop(member, 0) for member in self.families[name]) != n * times
            ):
                return False
        return not any(rest.values())

    def difference(self, recipe: Recipe, times: int, given: Mapping[str, int]) -> str:
        """Say the first thing that is wrong with `given`, as `makes` is false."""
        whole = f"{recipe.count * times} {recipe.output}"
        rest = dict(given)
        for name, n in sorted(
            recipe.ingredients, key=lambda pair: pair[0] in self.families
        ):  # a family takes what is left over
            members = self.families.get(name, (name,))
            got = (
                sum(rest.pop(member, 0) for member in members) if name in self.families else rest.get(name, 0)
            )
            if got < n * times or (got > n * times and not self._shared(name, recipe)):
                what = f"any {name} ({' or '.join(members)})" if name in self.families else name
                return f"{whole} takes {n * times} {what}, not {got}."
            if name not in self.families:
                rest[name] = got - n * times
        extra = [name for name, left in rest.items() if left]
        return f"{recipe.output} takes no {extra[0]}."

    def _shared(self, name: str, recipe: Recipe) -> bool:
        """Tell whether what is left of `name` may still stand for a family of the same recipe."""
        return any(name in self.families.get(other, ()) for other, _ in recipe.ingredients)

    def plan(self, inventory: Mapping[str, int], stock: Mapping[str, int] | None) -> list[str] | None:
        """Return actions to the goal, or None when what is left does not suffice. Exact as long as each item has one recipe."""
        wanted, times = demand(self.goal, self.order, self.best, inventory)
        shares = self._members(wanted, inventory, stock)
        if shares is None:
            return None
        have, actions = dict(inventory), []
        for item in reversed(self.order):
            if not times[item]:
                continue
            recipe, used = self.best[item], {}
            for name, n in recipe.ingredients:
                for member, k in (
                    _take(shares[name], n * times[item])
                    if name in self.families
                    else [(name, n * times[item])]
                ):
                    used[member] = used.get(member, 0) + k
            for name, n in used.items():
                if have.get(name, 0) < n:
                    actions.append(f"get {n - have.get(name, 0)} {name}")
                    have[name] = n
                have[name] -= n
            have[item] = have.get(item, 0) + recipe.count * times[item]
            actions.append(f"craft {recipe.count * times[item]} {item} using {', '.join(counted(used))}")
        return actions

    def _members(
        self, wanted: Mapping[str, int], inventory: Mapping[str, int], stock: Mapping[str, int] | None
    ) -> dict[str, list[list[Any]]] | None:
        """Choose which members stand for each family, what is in hand first: family -> [member, count]. None: too few base items."""
        free = {
            name: inventory.get(name, 0) - wanted.get(name, 0) for name in self.base
        }  # in hand beyond what is wanted by name
        left = {
            name: min(free[name], 0) + (stock[name] if stock is not None else 10**9) for name in self.base
        }
        if min(left.values(), default=0) < 0:
            return None
        shares: dict[str, list[list[Any]]] = {}
        for family, members in self.families.items():
            open_, shares[family] = wanted.get(family, 0), []
            for source in (free, left):
                for member in members:
                    n = max(0, min(open_, source[member]))
                    if n:
                        shares[family].append([member, n])
                        open_ -= n
            if open_:
                return None
        return shares


def counted(items: Mapping[str, int]) -> list[str]:
    """Return "2 bokir" for each item."""
    return [f"{n} {name}" for name, n in items.items()]


def _take(shares: list[list[Any]], count: int) -> list[tuple[str, int]]:
    """Take `count` off the front of shares [member, count]."""
    taken = []
    while count:
        member, n = shares[0]
        k = min(n, count)
        taken.append((member, k))
        count -= k
        shares[0][1] -= k
        if not shares[0][1]:
            shares.pop(0)
    return taken
