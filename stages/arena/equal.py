"""As many sampled tokens for every arm: a pilot measures what an arm's questions cost, and its questions (or
samples) follow.

A round writes P + (q + m) t tokens to make its data: P to propose m questions of its own, and t on each of
those and of the q that it draws. The pilot measures P, m and t with the model that generates round 1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pipeline.config import Arena, Recipe
from pipeline.console import progress as console
from pipeline.errors import ConfigError, SelfloopError, StaleError
from pipeline.ids import digest
from pipeline.rundir import RunDir
from pipeline.stage import PROPOSE, STAGES
from pipeline.store import files
from stages.arena.lineup import Lineup
from stages.rounds.loop import Loop

QUESTIONS = "questions_per_round"


class Sampled(NamedTuple):
    """What a pilot measured of an arm; `drawn` of `tasks` questions are what its recipe draws for a round."""

    drawn: int
    tasks: int
    proposing: float  # tokens
    made: float  # questions
    each: float  # tokens on a question, from generate to verify

    def tokens(self, drawn: float) -> float:
        """Return the tokens of a round that draws this many questions."""
        return self.proposing + (drawn + self.made) * self.each


async def settings(lineup: Lineup) -> dict[str, dict[str, Any]]:
    """Return by arm the setting with which a round samples as many tokens as the control's.

    Runs the pilots that are not done yet. {} unless the arena wants equal sampled tokens.
    """
    arena = lineup.arena
    if arena.equal != "sampled_tokens":
        return {}
    arms = list(dict.fromkeys((arena.against, *arena.arms)))
    recipes = {arm: lineup.recipe(arm, arena.seeds[0]) for arm in arms}
    known = _known(lineup, recipes)
    pilots = {arm: _prepared(lineup, arm) for arm in arms if arm not in known["arms"]}
    for arm, loop in pilots.items():
        measured = await _measure(loop, arm, recipes[arm])
        control = Sampled(**known["arms"].get(arena.against, {}).get("measured", measured._asdict()))
        found = _chosen(lineup, arm, measured, control)
        known["arms"][arm] = found | {"recipe": _digest(recipes[arm])}
        files.write_json(_path(str(lineup.folder)), known)
        was, value = setting(recipes[arm], arena.sampled_by), found["value"]
        console.print(
            f"{arm}: {measured.each:,.0f} tokens on a question; {arena.sampled_by} {value} (in its recipe "
            f"{was}) comes to {found['expected']:.0%} of the control's tokens",
            markup=False,
        )
    return {arm: {arena.sampled_by: known["arms"][arm]["value"]} for arm in arms}


def _known(lineup: Lineup, recipes: dict[str, Recipe]) -> dict[str, Any]:
    """Return what earlier starts have measured. Raises StaleError if that was another arena."""
    arena, path = lineup.arena, _path(str(lineup.folder))
    basis = {"control": arena.against, "by": arena.sampled_by, "pilot": arena.pilot}
    known = stored(str(lineup.folder)) or {**basis, "arms": {}}
    if {key: known[key] for key in basis} != basis:
        raise StaleError(
            f"{path} was measured with other settings ({', '.join(f'{k}: {known[k]}' for k in basis)}). Undo "
            "the change in the arena, or use another --to."
        )
    for arm, recipe in recipes.items():
        if arm in known["arms"] and known["arms"][arm]["recipe"] != _digest(recipe):
            raise StaleError(
                f"{path}: arm {arm!r} was measured with other settings. Give the changed arm another name."
            )
    return known


def _path(folder: str) -> str:
    return files.join(folder, "equal.json")


def stored(folder: str) -> dict[str, Any] | None:
    """Return what the pilots of the arena in `folder` found, None without any."""
    path = _path(folder)
    return files.read_json(path) if files.exists(path) else None


def setting(recipe: Recipe, key: str) -> Any:
    """Return a recipe's value of a dotted key, None if it has none."""
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _digest(recipe: Recipe) -> str:
    """Return a digest of the settings that outcomes depend on."""
    left_out: Any = {"name": True, "runner": True, "rounds": True, "evaluate": {"engine", "bootstrap"}}
    return digest(recipe.model_dump(mode="json", exclude=left_out))


def check(arena: Arena, lineup: Lineup) -> None:
    """Raise ConfigError for an arm whose sampled tokens cannot be set by `sampled_by`."""
    if arena.equal != "sampled_tokens" or arena.sampled_by == QUESTIONS:
        return
    for arm in arena.arms:
        value = setting(lineup.recipe(arm, arena.seeds[0]), arena.sampled_by)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(
                f"{lineup.place(('sampled_by',))}: {arena.sampled_by} is {value!r} in arm {arm!r}; expected "
                f"a setting that is a whole number in every arm, such as {QUESTIONS}."
            )


def _prepared(lineup: Lineup, arm: str) -> Loop:
    """Return the loop of an arm's pilot, whose tasks are read. Raises SelfloopError."""
    run, recipe = lineup.pilot(arm), lineup.recipe(arm, lineup.arena.seeds[0])
    small = {"rounds": 1, "questions_per_round": lineup.arena.pilot, "new_questions": False}
    with _of(arm):
        loop = Loop(run, run.freeze(recipe.model_copy(update=small)))
        loop.prepare(1)
    return loop


async def _measure(loop: Loop, arm: str, recipe: Recipe) -> Sampled:
    """Run a pilot: round 0, where there are demonstrations, and the stages of round 1."""
    console.print(f"pilot of {arm}: {loop.run.root}", markup=False, style="bold")
    with _of(arm):
        async with loop:
            if loop.recipe.demonstrations is not None:
                await loop.publish(0)
                await loop.train(0)
            for name in STAGES:
                await loop.stage(1, name)
    return _measured(loop.run, recipe)


@contextmanager
def _of(arm: str) -> Iterator[None]:
    try:
        yield
    except SelfloopError as e:
        raise type(e)(f"pilot of arm {arm!r}: {e}") from e


def _measured(run: RunDir, recipe: Recipe) -> Sampled:
    done = [m for name in STAGES if (m := run.manifest(run.stage(1, name)))]
    written, asked = sum(m.tokens.completion for m in done), max(1, done[0].rows_in)
    proposed, train = run.manifest(run.stage(1, PROPOSE)), run.manifest(run.tasks("train"))
    tasks = train.rows_out if train else 0
    return Sampled(
        drawn=min(recipe.questions_per_round or tasks, tasks),
        tasks=tasks,
        proposing=proposed.tokens.completion if proposed else 0,
        made=proposed.rows_out if proposed else 0,
        each=written / asked,
    )


def _chosen(lineup: Lineup, arm: str, measured: Sampled, control: Sampled) -> dict[str, Any]:
    """Return an arm's value of `sampled_by`, what was measured, and how near the control it should come."""
    arena, target = lineup.arena, control.tokens(control.drawn)
    free, was = target - measured.proposing, measured.tokens(measured.drawn)
    if not measured.each or free < measured.each:
        raise ConfigError(
            f"{lineup.place(('arms', arm))}: no number of questions makes this arm sample as much as the "
            f"control: {target:,.0f} tokens a round. Its pilot took {measured.proposing:,.0f} to propose "
            f"questions and {measured.each:,.0f} for each one."
        )
    if arena.sampled_by == QUESTIONS:
        value = min(measured.tasks, max(1, round(free / measured.each - measured.made)))
        expected = measured.tokens(value)
    else:
        now = setting(lineup.recipe(arm, arena.seeds[0]), arena.sampled_by)
        value = max(1, round(now * free / (was - measured.proposing)))
        expected = measured.proposing + (was - measured.proposing) * value / now
    if arm == arena.against:
        value = measured.drawn if arena.sampled_by == QUESTIONS else value
    return {"value": value, "measured": measured._asdict(), "expected": expected / target if target else 1.0}
