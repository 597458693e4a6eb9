"""Generated worlds: a seeded recipe book with a goal of a wanted depth, the same on every machine."""

from collections.abc import Iterator
from itertools import count
from random import Random

from pipeline.ids import ID_CHARS, digest
from stages.environments.base import EnvTask, Split
from stages.environments.crafting.book import Book, Recipe, Rules, demand, make_task, needed, split_of
from stages.environments.crafting.options import CraftingOptions

VERSION = 1  # increment it when the same key gives another world
MAX_INGREDIENTS = 3  # kinds of them in one recipe
LARGEST = 24  # beyond this many of one item a task is arithmetic, not planning
TRIES = 8  # with counts above 1; after that every count is 1
_ONSETS, _VOWELS, _CODAS = "bdfhklmnprtvz", "aeiou", "klmnrtvx"  # 33,800 names


def world_task(options: CraftingOptions, split: Split, index: int) -> EnvTask:
    """Return the `index`-th task of the split: its own world with one goal. Splits share no item names."""
    shaping = {"seed", "depth", "items", "distractors", "families", "scarce", "spare", "irrecoverable"}
    shape = options.model_dump(mode="json", include=shaping)
    key = digest(["crafting world", VERSION, split, index, shape])[:ID_CHARS]
    for attempt in count():
        rng = Random(f"{key}/{attempt}")
        world = _World(rng, split, small=attempt >= TRIES)
        goal = world.grow(rng.randint(*options.depth), options.items)
        for _ in range(options.families):
            world.add_family()
        if world.small or world.largest_demand(goal) <= LARGEST:
            break
    for _ in range(options.distractors):
        world.add_distractor(goal)
    rules = Rules(options.distractors, options.spare if options.scarce else None, options.irrecoverable)
    task = make_task(world.book(), goal, split, f"{split}/{index}/{key}", rng, rules)
    assert task is not None  # LARGEST is below MAX_COUNT
    return task


def invented_names(rng: Random, split: Split) -> Iterator[str]:
    """Yield distinct names of the split, which has at least 3,300. Unlike words, they give nothing away."""
    seen: set[str] = set()
    while True:
        name = "".join(map(rng.choice, (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _CODAS)))
        if name not in seen and split_of(name) == split:
            seen.add(name)
            yield name


class _World:
    """A book under construction."""

    def __init__(self, rng: Random, split: Split, small: bool) -> None:
        self.rng, self.small = rng, small
        self.names = invented_names(rng, split)
        self.base: list[str] = []
        self.level: dict[str, int] = {}  # of the items on the way to the goal
        self.made_of: dict[str, dict[str, int]] = {}
        self.gives: dict[str, int] = {}
        self.families: dict[str, tuple[str, ...]] = {}

    def grow(self, depth: int, items: int) -> str:
        """Add a goal of exactly this depth, needing at most `items` items with itself, and return it."""
        most = min(items, MAX_INGREDIENTS * depth + 1)
        size = self.rng.randint(min(depth + 2, most), most)
        self._add_base()
        below = self.base[0]
        for level in range(1, depth + 1):  # the chain that gives the depth
            below = self._add_crafted(level, below)
        goal = below
        self.gives[goal] = 1
        extra = self.rng.randint(0, max(0, (size - 1) // 2 - depth)) if depth > 1 else 0
        for _ in range(extra):
            level = self.rng.randint(1, depth - 1)
            if users := self._with_room(level):
                below = self.rng.choice([name for name, at in self.level.items() if at == level - 1])
                item = self._add_crafted(level, below)
                self._use(self.rng.choice(users), item)
        while len(self.level) < size and (users := self._with_room(0)):
            self._use(self.rng.choice(users), self._add_base())
        for item, used in self.made_of.items():  # some items are used twice, so that the book is not a tree
            lower = [n for n, level in self.level.items() if level < self.level[item] and n not in used]
            if len(used) == 1 and lower and not self.small and self.rng.random() < 0.5:
                self._use(item, self.rng.choice(lower))
        return goal

    def add_family(self) -> None:
        """Replace a base item in one recipe by a family of it and one or two new base items."""
        single = set(self.base).difference(*self.families.values())
        places = [(item, name) for item, used in self.made_of.items() for name in used if name in single]
        if not places:
            return
        item, name = self.rng.choice(places)
        family = next(self.names)
        added = [self._add_base() for _ in range(self.rng.randint(1, 2))]
        self.families[family] = tuple(sorted([name, *added]))
        self.made_of[item] = {family if n == name else n: count for n, count in self.made_of[item].items()}

    def add_distractor(self, goal: str) -> None:
        """Add a recipe for an item that the goal does not need, from items that it does."""
        useful = [name for name in self.level if name != goal]
        chosen = self.rng.sample(useful, min(len(useful), self.rng.randint(1, 2)))
        item = next(self.names)
        self.gives[item] = 1
        self.made_of[item] = {name: self.rng.randint(1, 2) for name in chosen}

    def largest_demand(self, goal: str) -> int:
        """Return the largest number of any one item that the goal takes."""
        depth, best = self.book().order
        return max(demand(goal, needed(goal, best, depth), best, {})[0].values())

    def book(self) -> Book:
        """Return the book so far."""
        recipes = [Recipe(item, self.gives[item], tuple(used.items())) for item, used in self.made_of.items()]
        return Book(tuple(recipes), tuple(self.base), self.families)

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
        room = [item for item, used in self.made_of.items() if len(used) < MAX_INGREDIENTS]
        return [item for item in room if self.level[item] > above]
