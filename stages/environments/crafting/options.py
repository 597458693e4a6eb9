"""Settings of the crafting environment."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.environments.base import EnvOptions

MAX_DEPTH = 6  # of generated worlds; deeper plans have more steps than a search tree


class Sizes(EnvOptions):
    """Tasks of each split. Those of a smaller size are the first ones of a larger."""

    train: int | None = Field(1000, ge=0, description="null: unlimited")
    dev: int | None = Field(100, ge=0)
    test: int | None = Field(100, ge=0)


class CraftingOptions(EnvOptions):
    """What worlds are like and how a game is scored. Some options belong to one source."""

    source: Literal["procedural", "file"] = Field(
        "procedural", description="procedural: a generated world per task; file: goals in recipes_file"
    )
    seed: int = 0
    tasks: Sizes = Field(default_factory=Sizes)
    depth: tuple[int, int] = Field(
        (1, 3), description="least and most crafts from base items to the goal along the longest path"
    )
    items: int = Field(8, ge=3, le=40, description="procedural: most items on the way, the goal included")
    distractors: int = Field(2, ge=0, le=40, description="recipes that are shown but not needed")
    families: int = Field(
        1, ge=0, le=4, description="procedural: ingredients that any item of a family can stand for"
    )
    scarce: bool = Field(
        False, description="base items run out: there are as many as the goal takes, plus `spare` of each"
    )
    spare: int = Field(1, ge=0, le=100)
    irrecoverable: bool = Field(
        False,
        description="a craft that follows no recipe loses its ingredients, with `scarce` perhaps for good",
    )
    reward: Literal["graded", "binary"] = Field(
        "graded", description="graded: the share of needed items made, 1 for the goal alone; binary: 0 or 1"
    )
    recipes_file: str | None = Field(
        None, description="file: minecraft-data's recipes.json, or a list of {output, count, ingredients}"
    )
    items_file: str | None = Field(None, description="file: items.json beside that recipes.json")
    base: list[str] | None = Field(
        None, description="file: items to take; default: those without a recipe, and one of each cycle"
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
        given = [name for name in ("recipes_file", "items_file", "base") if getattr(self, name) is not None]
        if given:
            raise ValueError(f"{' and '.join(given)}: only with source: file")
        if high > MAX_DEPTH:
            raise ValueError(f"depth goes up to {MAX_DEPTH} in procedural worlds, not {high}")
        if self.items < high + 1:
            raise ValueError(f"items is {self.items}: a goal of depth {high} takes at least {high + 1}")
        return self
