"""The settings of the crafting environment."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.environments.base import EnvOptions

MAX_DEPTH = 6  # of made-up worlds: beyond it a plan takes more steps than a search tree is deep


class Sizes(EnvOptions):
    """How many tasks each split has. The tasks of a smaller split are the first ones of a larger."""

    train: int | None = Field(1000, ge=0, description="null: without end")
    dev: int | None = Field(100, ge=0)
    test: int | None = Field(100, ge=0)


class CraftingOptions(EnvOptions):
    """What the worlds are like, and how a game is scored."""

    source: Literal["procedural", "file"] = Field(
        "procedural",
        description="procedural: every task has a made-up world; file: all are goals in recipes_file",
    )
    seed: int = 0
    tasks: Sizes = Field(default_factory=Sizes)
    depth: tuple[int, int] = Field(
        (1, 3), description="crafts from base items to the goal along the longest way: least and most"
    )
    items: int = Field(
        8,
        ge=3,
        le=40,
        description="procedural: at most this many items lead to the goal, the goal among them",
    )
    distractors: int = Field(2, ge=0, le=40, description="recipes that are shown but not needed")
    families: int = Field(
        1,
        ge=0,
        le=4,
        description="procedural: ingredients that stand for any item of a family (at most one for each base item)",
    )
    scarce: bool = Field(
        False, description="base items run out: there are as many as the goal takes, and `spare` more of each"
    )
    spare: int = Field(1, ge=0, le=100)
    irrecoverable: bool = Field(
        False,
        description="crafting by no recipe uses up what was put in; with `scarce`, a goal can then be lost for good",
    )
    reward: Literal["graded", "binary"] = Field(
        "graded",
        description="graded: the share of the items on the way that were made, 1 for the goal alone; binary: 0 or 1",
    )
    recipes_file: str | None = Field(
        None,
        description="file: recipes.json of minecraft-data, or a YAML or JSON list of {output, count, ingredients}",
    )
    items_file: str | None = Field(
        None, description="file: items.json beside that recipes.json, for the names"
    )
    base: list[str] | None = Field(
        None,
        description="file: the items that can be taken; default: those without a recipe, and one of each circle of recipes",
    )

    @field_validator("depth", mode="before")
    @classmethod
    def _one_depth(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _fits_together(self) -> "CraftingOptions":
        low, high = self.depth
        if not 1 <= low <= high:
            raise ValueError(f"depth is {[low, high]}; expected the least and the most, such as [1, 3]")
        if self.source == "file":
            if self.recipes_file is None:
                raise ValueError("source is file: set recipes_file")
            return self
        if given := [
            name for name in ("recipes_file", "items_file", "base") if getattr(self, name) is not None
        ]:
            raise ValueError(f"{' and '.join(given)}: only with source: file")
        if high > MAX_DEPTH:
            raise ValueError(f"depth goes up to {MAX_DEPTH} in procedural worlds, not {high}")
        if self.items < high + 1:
            raise ValueError(f"items is {self.items}: a goal of depth {high} takes at least {high + 1}")
        return self
