"""The arena: methods, or any other settings, side by side over the same recipe and seeds."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from pipeline.config.load import Override
from pipeline.config.section import Section
from pipeline.errors import suggest

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Settings = dict[str, Any]
_SET_HERE = {"seed": "seeds", "name": "name", "rounds": "set.rounds"}  # not by an arm


def arena_overrides(texts: Sequence[str]) -> list[Override]:
    """Return what `--set` says about an arena: the keys of `set` and of an arm are recipe settings, and so
    dotted themselves (set.train.max_steps). Raises ConfigError.
    """
    given = (Override.parsed(text) for text in texts)
    return [override._replace(key=_divided(str(override.key))) for override in given]


def _divided(key: str) -> tuple[str, ...]:
    depth = {"set": 1, "arms": 2}.get(key.partition(".")[0])
    return tuple(key.split(".") if depth is None else key.split(".", depth))


class Budget(Section):
    """What the arena may take in all. Used up, it stops after the step under way; with more, it goes on."""

    hours: PositiveFloat | None = None
    """Hours of running, over all starts of the command."""
    sampled_tokens: PositiveInt | None = None
    """Tokens that models write, in evaluations too. What arms share counts once."""


class Arena(Section):
    """Arms that are compared, each with every seed."""

    name: Name
    recipe: str
    """The recipe that all arms start from: a YAML file, or a name that `selfloop recipes` lists."""
    set: Settings = Field(default_factory=dict)
    """Settings of every arm that differ from the recipe, by dotted key, as with `--set`. A section
    without a dot, such as `train: {...}`, replaces all of it."""
    arms: dict[Name, Settings] = Field(min_length=2)
    """Each arm's own settings by dotted key, as with `--set`; {} for an arm that has none. `recipe` starts it
    from another recipe."""
    control: str | None = None
    """The arm that the others are compared with. Default: the first."""
    seeds: list[Seed] = Field([0], min_length=1)
    """Every arm runs with each of these as `seed`. Tasks, draws and trainings differ between seeds."""
    equal: Literal["nothing", "steps", "trained_tokens", "sampled_tokens"] = "nothing"
    """What every arm gets as much of as the control. steps: `train.max_steps` of the control.
    trained_tokens: its `train.max_tokens`. sampled_tokens: tokens that a round writes to make its data,
    measured in a pilot; each arm's `sampled_by` is set so that it comes to as many. The table says how nearly
    that was reached."""
    sampled_by: str = "questions_per_round"
    """The setting, a whole number, that `equal: sampled_tokens` changes, such as method.samples."""
    pilot: PositiveInt = 32
    """Questions of a pilot. It runs the stages of round 1 once for each arm, with the first seed."""
    tolerance: float = Field(0.1, gt=0, lt=1)
    """Arms whose compute is further from the control's than this share are flagged."""
    budget: Budget = Field(default_factory=Budget)

    @field_validator("arms", mode="before")
    @classmethod
    def _may_be_blank(cls, arms: Any) -> Any:
        return {k: {} if v is None else v for k, v in arms.items()} if isinstance(arms, dict) else arms

    @field_validator("arms", "set")
    @classmethod
    def _leaves_to_the_arena(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        given = value.items() if info.field_name == "arms" else [("", value)]
        for arm, settings in given:
            for key in settings.keys() & (_SET_HERE.keys() - ({"rounds"} if not arm else set())):
                where = f"{arm}." if arm else ""
                raise ValueError(f"{where}{key} cannot be set here: it is the arena's ({_SET_HERE[key]})")
        return value

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is there twice; it would count as two")
        return seeds

    @field_validator("control")
    @classmethod
    def _is_an_arm(cls, control: str | None, info: ValidationInfo) -> str | None:
        arms = info.data.get("arms", {control: {}})  # an arena whose arms are wrong says so
        if control is not None and control not in arms:
            raise ValueError(f"no arm has this name.{suggest(control, arms)} Arms: {', '.join(arms)}")
        return control

    @property
    def against(self) -> str:
        """The control's name."""
        return self.control or next(iter(self.arms))
