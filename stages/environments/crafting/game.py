"""The crafting game: actions, replies, reward. States are immutable, so a snapshot is a reference.

The graded reward is the share of the plan's crafted items, goal included, that were made at least once; the
goal alone gives 1. Base items, distractors and repeats give nothing, and nothing is taken back: with m items
before the goal, a player that makes and then wastes them all keeps m / (m + 1) without a chance of the goal.
So with alpha below 1 a good path need not reach it; use `reward: binary` if it must. A family's members and a
file's other recipes may bypass an item of the plan, whose share then comes with the goal.
"""

from collections.abc import Iterator
from functools import cached_property
from itertools import count, islice
from typing import NamedTuple

from pipeline.ids import digest
from stages.environments.base import REFLECT_REPLY, Environment, EnvTask, Split, Step
from stages.environments.crafting.book import MAX_COUNT, Book, Recipe, Rules
from stages.environments.crafting.options import CraftingOptions
from stages.environments.crafting.puzzle import Puzzle, counted
from stages.environments.crafting.recipe_files import file_tasks, read_book
from stages.environments.crafting.worlds import world_task

_NAME_CHARS = 40  # of an unknown name in a reply
_OVER = "The game is over."


class State(NamedTuple):
    """Everything that changes. The dicts belong to one state and are never written to again."""

    inventory: dict[str, int]  # no entry is 0
    stock: dict[str, int] | None  # remaining base items; None: they do not run out
    made: frozenset[str]  # the milestones reached
    reward: float
    won: bool


class Refused(Exception):
    """An action is impossible; the message is the reply."""


class Crafting(Environment):
    """`get`, `craft ... using ...` and `inventory` until the goal is crafted. The caller limits steps."""

    name = "crafting"
    Options = CraftingOptions
    rules_prompt = "agent_r/rules_crafting"

    def __init__(self, options: CraftingOptions) -> None:
        super().__init__(options)
        self._task_id = ""
        self._puzzle: Puzzle
        self._state: State

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        """Yield one task per generated world, or per goal in the recipe file, whose splits go by name.

        Raises DataError for an unusable recipe file.
        """
        o: CraftingOptions = self.options
        size = getattr(o.tasks, split)
        if o.source == "procedural":
            yield from (world_task(o, split, index) for index in (count() if size is None else range(size)))
            return
        rules = Rules(o.distractors, o.spare if o.scarce else None, o.irrecoverable)
        yield from islice(file_tasks(self._book[0], split, o.seed, o.depth, rules), size)

    def notes(self) -> list[str]:
        """Return what was omitted from a recipe file."""
        return self._book[1] if self.options.source == "file" else []

    @cached_property
    def _book(self) -> tuple[Book, list[str]]:
        # Not in __init__: a task's spec suffices to play, and the machine that plays may not have the file.
        return read_book(self.options.recipes_file, self.options.items_file, self.options.base)

    def reset(self, task: EnvTask) -> str:
        """Start with an empty inventory."""
        if task.id != self._task_id:
            self._puzzle, self._task_id = Puzzle(task.spec), task.id
        self._milestones = self._puzzle.milestones if self.options.reward == "graded" else frozenset()
        self._state = State({}, self._puzzle.stock, frozenset(), 0.0, False)
        return self._puzzle.describe()

    def _reflected(self) -> Step:
        return self._reply(REFLECT_REPLY, True)

    def _step(self, text: str) -> Step:
        action = " ".join(text.lower().split()).rstrip(" .!")
        try:
            if self._state.won:
                raise Refused(_OVER)
            if action.startswith("get "):
                text = self._get(*_counted(action[4:], "Say how many of what: get 2 ITEM."))
            elif action.startswith("craft "):
                text = self._craft(*_craft_arguments(action[6:]))
            elif action == "inventory":
                held = sorted(self._state.inventory.items())
                text = f"You have {', '.join(counted(dict(held)))}." if held else "You have nothing."
            else:
                raise Refused("Unknown action. Use get, craft or inventory.")
            return self._reply(text, True)
        except Refused as e:
            return self._reply(str(e), False)

    def _reply(self, text: str, executed: bool) -> Step:
        return Step(text, self._state.reward, self._state.won, {"executed": executed})

    def _get(self, n: int, name: str) -> str:
        puzzle, state = self._puzzle, self._state
        if name not in puzzle.base_names:
            craftable = name in puzzle.by_output
            raise Refused(f"{name} cannot be taken. Craft it." if craftable else self._unknown(name))
        stock = state.stock
        if stock is not None:
            left = stock[name] - n
            if left < 0:
                some = f"There are only {stock[name]} {name} left."
                raise Refused(some if stock[name] else f"There is no {name} left.")
            stock = {**stock, name: left}
        inventory = {**state.inventory, name: state.inventory.get(name, 0) + n}
        self._state = State(inventory, stock, state.made, state.reward, False)
        return f"You took {n} {name}."

    def _craft(self, n: int, output: str, given: dict[str, int]) -> str:
        puzzle, state = self._puzzle, self._state
        recipes = puzzle.by_output.get(output)
        if recipes is None:
            base = output in puzzle.base_names
            raise Refused(f"{output} cannot be crafted. Get it." if base else self._unknown(output))
        for name, k in given.items():
            held = state.inventory.get(name, 0)
            if held < k:
                known = name in puzzle.known
                raise Refused(f"You have {held} {name}, not {k}." if known else self._unknown(name))
        mismatch = self._mismatch(recipes, n, given)
        if mismatch and not puzzle.spoils:
            raise Refused(mismatch)
        rest = {name: held - given.get(name, 0) for name, held in state.inventory.items()}
        inventory = {name: held for name, held in rest.items() if held}
        if mismatch:
            self._state = state._replace(inventory=inventory)
            return f"{mismatch} You lost {', '.join(counted(given))}."
        inventory[output] = inventory.get(output, 0) + n
        if output == puzzle.goal:
            self._state = State(inventory, state.stock, state.made, 1.0, True)
            return f"You made {n} {output}. That is the goal."
        made, reward = state.made, state.reward
        if output in self._milestones and output not in made:
            made = made | {output}
            reward = len(made) / (len(self._milestones) + 1)
        self._state = State(inventory, state.stock, made, reward, False)
        return f"You made {n} {output}."

    def _mismatch(self, recipes: list[Recipe], n: int, given: dict[str, int]) -> str:
        """Say why no recipe makes `n` of its output from `given`; '' if one does."""
        for recipe in recipes:
            if n % recipe.count:
                problem = f"A recipe makes {recipe.count} {recipe.output} at a time, not {n}."
            elif not (problem := self._puzzle.difference(recipe, n // recipe.count, given)):
                return ""
        return problem if len(recipes) == 1 else f"No recipe makes {n} {recipe.output} of that."

    def _unknown(self, name: str) -> str:
        family = name.removeprefix("any ")
        if members := self._puzzle.families.get(family):
            return f"{family} is a kind of item. Name one: {' or '.join(members)}."
        return f"There is no {name[:_NAME_CHARS]}."

    def snapshot(self) -> State:
        """Return the state itself, which no later step changes."""
        return self._state

    def restore(self, state: State) -> None:
        """Return to that state."""
        self._state = state

    def oracle(self) -> list[str] | None:
        """Return a minimal set of crafts, each preceded by taking what it lacks."""
        return [] if self._state.won else self._puzzle.plan(self._state.inventory, self._state.stock)

    def state_hash(self) -> str:
        """Hash the task with the inventory, the stock and the milestones reached."""
        inventory, stock, made, _, won = self._state
        if won:
            return digest([self._task_id, won])
        left = None if stock is None else sorted(stock.items())
        return digest([self._task_id, sorted(inventory.items()), left, sorted(made)])


def _counted(text: str, expected: str) -> tuple[int, str]:
    """Parse "2 bokir". Raises Refused with `expected`, or for a count out of range."""
    digits, _, name = text.partition(" ")
    if not name or not (digits.isascii() and digits.isdecimal()):
        raise Refused(expected)
    if len(digits) > len(str(MAX_COUNT)) or not int(digits):
        raise Refused(f"A count goes from 1 to {MAX_COUNT}.")
    return int(digits), name


def _craft_arguments(text: str) -> tuple[int, str, dict[str, int]]:
    """Parse "1 bokir using 2 tavun, 1 fekor"."""
    head, using, tail = text.partition(" using ")
    expected = "Say what to craft of what: craft 1 ITEM using 2 ITEM, 1 ITEM."
    n, output = _counted(head if using else "", expected)
    expected = "After using, give a count and a name for each, with commas: 2 ITEM, 1 ITEM."
    given: dict[str, int] = {}
    for part in tail.split(","):
        k, name = _counted(part.strip(), expected)
        given[name] = given.get(name, 0) + k
    return n, output, given
