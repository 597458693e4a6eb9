"""Made-up worlds: a seeded recipe book with a goal of a wanted depth. Equal arguments give equal worlds on every machine."""

from itertools import count
from random import Random

from pipeline.ids import ID_CHARS, digest
from stages.environments.base import EnvTask, Split
from stages.environments.crafting.book import Book, Recipe, Rules, demand, make_task, needed
from stages.environments.crafting.names import invented_names
from stages.environments.crafting.options import CraftingOptions

VERSION = 1  # raise it when the same key gives another world
MAX_INGREDIENTS = 3  # kinds of them in one recipe
LARGEST = 24  # more of one item than this is sums, not planning
TRIES = 8  # with numbers above 1; after that every number is 1


def world_task(options: CraftingOptions, split: Split, index: int) -> EnvTask:
    """Return the `index`-th task of the split: a world of its own with one goal. Names of items occur in no other split."""
    shape = options.model_dump(
        mode="json",
        include={"seed", "depth", "items", "distractors", "families", "scarce", "spare", "irrecoverable"},
    )
    key = digest(["crafting world", VERSION, split, index, shape])[:ID_CHARS]
    for attempt in count():
        rng = Random(f"{key}/{attempt}")
        world = _World(rng, split, small=attempt >= TRIES)
        goal = world.grow(rng.randint(*options.depth), options.items)
        for _ in range(options.families):
            world.add_family()
        largest = world.largest_demand(goal)
        if largest <= LARGEST or world.small:
            break
    for _ in range(options.distractors):
        world.add_distractor(goal)
    rules = Rules(options.distractors, options.spare if options.scarce else None, options.irrecoverable)
    task = make_task(world.book(), goal, split, f"{split}/{index}/{key}", rng, rules)
    assert task is not None  # LARGEST is below MAX_COUNT
    return task


class _World:
    """A book in the making."""

    def __init__(self, rng: Random, split: Split, small: bool) -> None:
        self.rng, self.small = rng, small
        self.names = invented_names(rng, split)
        self.base: list[str] = []
        self.level: dict[str, int] = {}  # of the items that lead to the goal
        self.made_of: dict[str, dict[str, int]] = {}
        self.gives: dict[str, int] = {}
        self.families: dict[str, tuple[str, ...]] = {}

    def grow(self, depth: int, items: int) -> str:
        """Make a goal of exactly this depth, and at most `items` items that are all needed for it. Return the goal."""
        most = min(items, MAX_INGREDIENTS * depth + 1)
        size = self.rng.randint(min(depth + 2, most), most)
        self._add_base()
        below = self.base[0]
        for level in range(1, depth + 1):  # a chain, which makes the depth
            below = self._add_crafted(level, below)
        goal = below
        self.gives[goal] = 1
        extra = self.rng.randint(0, max(0, (size - 1) // 2 - depth)) if depth > 1 else 0
        for _ in range(extra):
            level = self.rng.randint(1, depth - 1)
            if users := self._with_room(level):
                item = self._add_crafted(level, self.rng.choice(self._at(level - 1)))
                self._use(self.rng.choice(users), item)
        while len(self.level) < size and (users := self._with_room(0)):
            self._use(self.rng.choice(users), self._add_base())
        for item in list(self.made_of):  # some items are used twice, so that the book is no tree
            lower = [
                name
                for name, level in self.level.items()
                if level < self.level[item] and name not in self.made_of[item]
            ]
            if len(self.made_of[item]) == 1 and lower and not self.small and self.rng.random() < 0.5:
                self._use(item, self.rng.choice(lower))
        return goal

    def add_family(self) -> None:
        """Let an ingredient of one recipe be any item of a family: a base item that is there, and one or two new ones."""
        taken = {member for members in self.families.values() for member in members}
        places = [
            (item, name)
            for item, used in self.made_of.items()
            for name in used
            if name in self.base and name not in taken
        ]
        if not places:
            return
        item, name = self.rng.choice(places)
        family = next(self.names)
        self.families[family] = tuple(
            sorted([name, *(self._add_base() for _ in range(self.rng.randint(1, 2)))])
        )
        self.made_of[item] = {family if n == name else n: count for n, count in self.made_of[item].items()}

    def add_distractor(self, goal: str) -> None:
        """Add a recipe of what is there for something that the goal does not take."""
        useful = [name for name in self.level if name != goal]
        chosen = self.rng.sample(useful, min(len(useful), self.rng.randint(1, 2)))
        item = next(self.names)
        self.gives[item] = 1
        self.made_of[item] = {name: self.rng.randint(1, 2) for name in chosen}

    def largest_demand(self, goal: str) -> int:
        """Return how many of the item that most are needed of."""
        depth, best = self.book().order
        return max(demand(goal, needed(goal, best, depth), best, {})[0].values())

    def book(self) -> Book:
        """Return the book as it is now."""
        recipes = tuple(
            Recipe(item, self.gives[item], tuple(used.items())) for item, used in self.made_of.items()
        )
        return Book(recipes, tuple(self.base), self.families)

    def _add_base(self) -> str:
        name = next(self.names)
        self.base.append(name)
        self.level[name] = 0
        return name

    def _add_crafted(self, level: int, of: str) -> str:
        name = next(self.names)
        self.level[name], self.made_of[name] = level, {}
        self.gives[name] = 1 if self.small else self.rng.choice((1, 1, 1, 2))
        self._use(name, of)
        return name

    def _use(self, item: str, ingredient: str) -> None:
        counts = (1,) if self.small else (1, 1, 2, 2, 3) if self.level[ingredient] == 0 else (1, 1, 2)
        self.made_of[item][ingredient] = self.rng.choice(counts)

    def _with_room(self, above: int) -> list[str]:
        return [
            item
            for item, used in self.made_of.items()
            if self.level[item] > above and len(used) < MAX_INGREDIENTS
        ]

    def _at(self, level: int) -> list[str]:
        return [name for name, at in self.level.items() if at == level]
