"""The engines at the seats of a stage (pipeline.stage.Seat), such as those of verifiers that ask a model."""

from collections.abc import Awaitable, Callable, Iterable

from pipeline.chat.settle import at_endpoint, settle
from pipeline.config import OpenaiEngine, Recipe
from pipeline.config.recipe import Model
from pipeline.engines.openai import api_key
from pipeline.engines.pool import EngineHandle, EnginePool
from pipeline.errors import ConfigError
from pipeline.methods import Method
from pipeline.models import ModelRef, resolve_model
from pipeline.protocols import ChoosesEngines
from pipeline.stage import ROUND, UNTRAINED, Seat, Stage

Chosen = dict[str, tuple[EnginePool, ModelRef]]  # by seat


def chosen_by(method: Method, stage: str, round_: int) -> Seat | None:
    """Return the seat of the model that a method asks in a stage; None for the round's model."""
    own = method.engine(stage, round_) if isinstance(method, ChoosesEngines) else None
    if own is None or isinstance(own, Seat):
        return own
    return Seat(own) if isinstance(own, str) else Seat(engine=own)


class Seats:
    """Seats that are served by the recipe's engines, and those with engines of their own."""

    def __init__(self, recipe: Recipe, shared: EnginePool, logs: str | None) -> None:
        """`shared` are the recipe's engines; those of seats write their output below `logs`."""
        self._recipe, self._shared, self._logs = recipe, shared, logs
        self._own: list[EnginePool] = []

    def choose(self, stage: Stage, part: Callable[[str], ModelRef]) -> Chosen:
        """Return the engines and the model of each of a stage's seats, without starting anything.

        `part` returns the run's model for ROUND and UNTRAINED.
        """
        return {name: self.at(seat, part) for name, seat in stage.seats.items()}

    def at(self, seat: Seat, part: Callable[[str], ModelRef]) -> tuple[EnginePool, ModelRef]:
        """Return the engines and the model of one seat, without starting anything."""
        return self._pool(seat), self._model(seat, part)

    async def start(
        self, chosen: Chosen, free: Callable[[set[EnginePool]], Awaitable[None]]
    ) -> dict[str, EngineHandle]:
        """Start what was chosen and return a handle for each seat.

        `free` ends all engines but those it is given: a model of its own needs their memory.
        """
        if any(pool.replicated for pool, _ in chosen.values()):
            await free({pool for pool, _ in chosen.values()})
        return {name: await pool.use(model) for name, (pool, model) in chosen.items()}

    def check(self, seats: Iterable[Seat]) -> None:
        """Raise ConfigError for a model or an API key that is not there, before anything is generated."""
        seen: list[Seat] = []
        for seat in seats:
            if seat in seen:
                continue
            seen.append(seat)
            self._model(seat, lambda _: ModelRef("", "", ""))
            if isinstance(seat.engine, OpenaiEngine):
                try:
                    api_key(seat.engine.api_key_env)
                except ConfigError as e:
                    raise ConfigError(f"{seat.called}: {e}") from None

    async def leave(self) -> None:
        """End the seats' own engines."""
        own, self._own = self._own, []
        for pool in own:
            await pool.free()

    def _pool(self, seat: Seat) -> EnginePool:
        section, of_run = seat.engine or self._recipe.engine, seat.model in (ROUND, UNTRAINED)
        if of_run and section == self._recipe.engine:
            return self._shared
        recipe = self._recipe if of_run else self._for(seat.model)
        logs = f"{self._logs}/other-{len(self._own)}" if self._logs else None
        self._own.append(EnginePool(recipe, section, logs, own=True))
        return self._own[-1]

    def _for(self, model: str) -> Recipe:
        """Return the recipe with another model: it is not trusted to bring code because the run's own is."""
        return self._recipe.model_copy(update={"model": Model(base=model)})

    def _model(self, seat: Seat, part: Callable[[str], ModelRef]) -> ModelRef:
        """Return the model at a seat. An endpoint of its own gets nothing of the run's template."""
        section = seat.engine or self._recipe.engine
        if section.implementation.is_endpoint:
            own = ModelRef("", self._recipe.model.base, "")
            return own if seat.engine else at_endpoint(self._recipe)
        if seat.model in (ROUND, UNTRAINED):
            return part(seat.model)
        try:
            if section.implementation.writes_text:
                return settle(self._for(seat.model)).model
            return resolve_model(seat.model)
        except ConfigError as e:
            raise ConfigError(f"{seat.called}: {e}") from None
