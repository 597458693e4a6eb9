"""The crafting game: actions, replies, reward. A state is never changed in place, so a snapshot is a reference.

The graded reward is the share of the items on the plan's way, goal included, that were crafted at least once; 1 is for the goal alone.
Taking base items, distractors and making a thing again give nothing. It can be had in part without a chance of the goal: of m items in
between, a player that makes each and then wastes them keeps m / (m + 1). So below alpha = 1 a good path need not reach the goal; where
that is not wanted, use `reward: binary`. A family's members and a file's other recipes may lead around an item of the plan: its share
then comes with the goal.
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

_NAME_CHARS = 40  # of an unknown name that is said back
_OVER = "The game is over."


class State(NamedTuple):
    """All that changes. The dicts belong to one state and are not written to after it is made."""

    inventory: dict[str, int]  # no entry is 0
    stock: dict[str, int] | None  # base items left; None: they do not run out
    made: frozenset[str]  # of the puzzle's milestones
    reward: float
    won: bool


class Refused(Exception):
    """An action cannot be done; the message says why."""


class Crafting(Environment):
    """`get`, `craft ... using ...` and `inventory`, until the goal is crafted. The caller limits the steps."""

    name = "crafting"
    Options = CraftingOptions
    rules_prompt = "agent_r/rules_crafting"

    def __init__(self, options: CraftingOptions) -> None:
        super().__init__(options)
        self._task_id = ""
        self._puzzle: Puzzle
        self._state: State

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        """Yield tasks: a world for each, or the goals of the recipe file (80% train, 10% dev, 10% test, by name). Raises DataError."""
        o: CraftingOptions = self.options
        size = getattr(o.tasks, split)
        if o.source == "procedural":
            yield from (world_task(o, split, index) for index in (count() if size is None else range(size)))
            return
        rules = Rules(o.distractors, o.spare if o.scarce else None, o.irrecoverable)
        yield from islice(file_tasks(self._book[0], split, o.seed, o.depth, rules), size)

    def notes(self) -> list[str]:
        """Return what was left out of a recipe file."""
        return self._book[1] if self.options.source == "file" else []

    @cached_property
    def _book(self) -> tuple[Book, list[str]]:
        # Not read in __init__: a task's spec holds all that playing takes, and the machine that plays may not have the file.
        return read_book(self.options.recipes_file, self.options.items_file, self.options.base)

    def reset(self, task: EnvTask) -> str:
        """Begin with nothing in hand."""
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
                return self._reply(
                    self._get(*_counted(action[4:], "Say how many of what: get 2 ITEM.")), True
                )
            if action.startswith("craft "):
                return self._reply(self._craft(*_what_of_what(action[6:])), True)
            if action == "inventory":
                return self._reply(self._inventory(), True)
            raise Refused("Unknown action. Use get, craft or inventory.")
        except Refused as e:
            return self._reply(str(e), False)

    def _reply(self, text: str, executed: bool) -> Step:
        return Step(text, self._state.reward, self._state.won, {"executed": executed})

    def _inventory(self) -> str:
        held = self._state.inventory
        return f"You have {', '.join(counted(dict(sorted(held.items()))))}." if held else "You have nothing."

    def _get(self, n: int, name: str) -> str:
        puzzle, state = self._puzzle, self._state
        if name not in puzzle.base_names:
            raise Refused(
                f"{name} cannot be taken. Craft it." if name in puzzle.by_output else self._unknown(name)
            )
        stock = state.stock
        if stock is not None:
            if stock[name] < n:
                raise Refused(
                    f"There is no {name} left."
                    if not stock[name]
                    else f"There are only {stock[name]} {name} left."
                )
            stock = {**stock, name: stock[name] - n}
        self._state = State(
            {**state.inventory, name: state.inventory.get(name, 0) + n},
            stock,
            state.made,
            state.reward,
            False,
        )
        return f"You took {n} {name}."

    def _craft(self, n: int, output: str, given: dict[str, int]) -> str:
        puzzle, state = self._puzzle, self._state
        recipes = puzzle.by_output.get(output)
        if recipes is None:
            raise Refused(
                f"{output} cannot be crafted. Get it."
                if output in puzzle.base_names
                else self._unknown(output)
            )
        for name, k in given.items():
            held = state.inventory.get(name, 0)
            if held < k:
                raise Refused(
                    f"You have {held} {name}, not {k}." if name in puzzle.known else self._unknown(name)
                )
        follows = any(n % r.count == 0 and puzzle.makes(r, n // r.count, given) for r in recipes)
        if not follows and not puzzle.spoils:
            raise Refused(self._mismatch(recipes, n, given))
        inventory = {
            name: left for name, held in state.inventory.items() if (left := held - given.get(name, 0))
        }
        if not follows:
            self._state = state._replace(inventory=inventory)
            return f"{self._mismatch(recipes, n, given)} You lost {', '.join(counted(given))}."
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
        if len(recipes) > 1:
            return f"No recipe makes {n} {recipes[0].output} of that."
        recipe = recipes[0]
        if n % recipe.count:
            return f"A recipe makes {recipe.count} {recipe.output} at a time, not {n}."
        return self._puzzle.difference(recipe, n // recipe.count, given)

    def _unknown(self, name: str) -> str:
        family = name.removeprefix("any ")
        if members := self._puzzle.families.get(family):
            return f"{family} is a kind of item. Name one: {' or '.join(members)}."
        return f"There is no {name[:_NAME_CHARS]}."

    def snapshot(self) -> State:
        """Return the state itself: no later step writes to it."""
        return self._state

    def restore(self, state: State) -> None:
        """Take that state up again."""
        self._state = state

    def oracle(self) -> list[str] | None:
        """Return a shortest set of crafts, with what is missing taken before each."""
        return [] if self._state.won else self._puzzle.plan(self._state.inventory, self._state.stock)

    def state_hash(self) -> str:
        """Hash the task and what is in hand, left, and counted."""
        inventory, stock, made, _, won = self._state
        left = None if stock is None else sorted(stock.items())
        return digest(
            [self._task_id, won] if won else [self._task_id, sorted(inventory.items()), left, sorted(made)]
        )


def _number(digits: str) -> int:
    n = int(digits) if len(digits) <= len(str(MAX_COUNT)) else 0
    if not n:
        raise Refused(f"A count goes from 1 to {MAX_COUNT}.")
    return n


def _counted(text: str, expected: str) -> tuple[int, str]:
    """Read "2 bokir". Raises Refused, saying `expected`."""
    digits, _, name = text.partition(" ")
    if not name or not (digits.isascii() and digits.isdecimal()):
        raise Refused(expected)
    return _number(digits), name


def _what_of_what(text: str) -> tuple[int, str, dict[str, int]]:
    """Read "1 bokir using 2 tavun, 1 fekor"."""
    head, using, tail = text.partition(" using ")
    n, output = _counted(
        head if using else "", "Say what to craft of what: craft 1 ITEM using 2 ITEM, 1 ITEM."
    )
    given: dict[str, int] = {}
    for part in tail.split(","):
        k, name = _counted(
            part.strip(), "After using, give a count and a name for each, with commas: 2 ITEM, 1 ITEM."
        )
        given[name] = given.get(name, 0) + k
    return n, output, given
