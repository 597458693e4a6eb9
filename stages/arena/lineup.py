"""Which runs an arena has: one for each arm and seed, with its recipe, its folder and its twins.

FOLDER/runs/<arm>/seed-<n>/   a run directory like any other: inspect, compare, trace and iterate work on it
FOLDER/pilots/<arm>/          what measures how much an arm samples (equal: sampled_tokens)
FOLDER/equal.json             what the pilots found, and the settings that follow from it
FOLDER/spent.json             how long the arena has been running; spent-<seed>.json where seeds run apart
FOLDER/arena.json, .md, .png  the results
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Arena, Override, Place, Recipe, load_recipe
from pipeline.errors import ConfigError
from pipeline.rundir import RunDir

Settings = Mapping[str, Any]


class Entry(NamedTuple):
    """One run of the arena."""

    arm: str
    seed: int
    recipe: Recipe
    run: RunDir


class Lineup:
    """Builds the recipes of an arena, and knows where its runs are.

    `place` says where a key of the arena stands, `find` turns a recipe's name into its path.
    """

    def __init__(self, arena: Arena, place: Place, folder: str, find: Callable[[str], str]) -> None:
        self.arena, self.place, self.folder, self._find = arena, place, Path(folder).absolute(), find

    def entries(self, chosen: Mapping[str, Settings] | None = None) -> list[Entry]:
        """Return the runs in the order in which they are made: all arms of a seed, the control first.

        `chosen` are settings by arm that equal compute asks for. Raises ConfigError.
        """
        arms = [self.arena.against, *(arm for arm in self.arena.arms if arm != self.arena.against)]
        given = {arm: {**self._equal(arm), **(chosen or {}).get(arm, {})} for arm in arms}
        return [
            Entry(arm, seed, self.recipe(arm, seed, given[arm]), self.run(arm, seed))
            for seed in self.arena.seeds
            for arm in arms
        ]

    def recipe(self, arm: str, seed: int, further: Settings | None = None) -> Recipe:
        """Return an arm's recipe. Raises ConfigError, naming file, line and key."""
        own = dict(self.arena.arms[arm])
        named = own.pop("recipe", None)
        overrides = list(self._overrides(("set",), self.arena.set))
        overrides += self._overrides(("arms", arm), own)
        here = self.place(("arms", arm))
        ours = {"seed": seed, "name": f"{self.arena.name}-{arm}-{seed}", **(further or {})}
        overrides += [Override(key, value, here) for key, value in ours.items()]
        try:
            return load_recipe(self._find(self.arena.recipe if named is None else named), overrides)
        except ConfigError as e:
            text = str(e)
            raise ConfigError(text if text.startswith(here.split(":")[0]) else f"{here}: {text}") from None

    def run(self, arm: str, seed: int) -> RunDir:
        """Return a run's folder. Its twins are the other arms' runs of that seed, and the first seed's
        pilots.
        """
        twins = [RunDir(self._folder(other, seed)) for other in self.arena.arms if other != arm]
        return RunDir(self._folder(arm, seed), [*twins, *(self._pilots() if self._is_first(seed) else ())])

    def pilot(self, arm: str) -> RunDir:
        """Return the folder of an arm's pilot, which shares what it can with all other runs of its seed."""
        own, seed = self.folder / "pilots" / arm, self.arena.seeds[0]
        runs = [RunDir(self._folder(other, seed)) for other in self.arena.arms]
        return RunDir(own, [*(p for p in self._pilots() if p.root != str(own)), *runs])

    def runs(self) -> dict[str, dict[int, RunDir]]:
        """Return the runs by arm and seed."""
        return {arm: {seed: self.run(arm, seed) for seed in self.arena.seeds} for arm in self.arena.arms}

    def everything(self) -> list[RunDir]:
        """Return all runs and pilots."""
        return [*(run for runs in self.runs().values() for run in runs.values()), *self._pilots()]

    def _pilots(self) -> list[RunDir]:
        pilots = self.arena.equal == "sampled_tokens"
        return [RunDir(self.folder / "pilots" / arm) for arm in self.arena.arms] if pilots else []

    def _is_first(self, seed: int) -> bool:
        return seed == self.arena.seeds[0]

    def _folder(self, arm: str, seed: int) -> Path:
        return self.folder / "runs" / arm / f"seed-{seed}"

    def _overrides(self, section: tuple[str, ...], settings: Settings) -> Iterator[Override]:
        for key, value in settings.items():
            yield Override(key, value, self.place((*section, key)))

    def _equal(self, arm: str) -> dict[str, Any]:
        """Return the settings with which every arm takes the control's steps, or tokens, in training."""
        arena = self.arena
        key = {"steps": "max_steps", "trained_tokens": "max_tokens"}.get(arena.equal)
        if key is None:
            return {}
        wanted = getattr(self.recipe(arena.against, arena.seeds[0]).train, key)
        if wanted is None:
            raise ConfigError(
                f"{self.place(('equal',))}: {arena.equal} needs train.{key}, which the control "
                f"{arena.against!r} does not set. Add it, for all arms: set: {{train.{key}: N}}"
            )
        own = arena.arms[arm].get(f"train.{key}", wanted)
        if own != wanted:
            raise ConfigError(
                f"{self.place(('arms', arm, f'train.{key}'))}: {own}, but equal: {arena.equal} gives every "
                f"arm the control's {wanted}. Remove one of them."
            )
        if key == "max_tokens":
            return {"train.max_tokens": wanted}
        sections = ("train", "train.dpo", "train.kto")
        return {"train.max_tokens": None, **{f"{section}.max_steps": wanted for section in sections}}
