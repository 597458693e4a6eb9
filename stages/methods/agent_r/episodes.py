"""Playing one episode to its end, and counting the loops in it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.engines.base import Message, Sampling
from pipeline.errors import EngineError
from pipeline.runner.llm import LLM
from stages.environments.base import is_reflection
from stages.methods.agent_r.search.game import Game
from stages.methods.agent_r.search.turns import exchange, normalize_action

LONGEST_LOOP = 6


@dataclass(slots=True)
class Episode:
    """What was played after the opening. `end`: done, steps (the limit), refused (conversation too long).

    `actions` has the reflections too; `reflections` counts those that used no step.
    """

    messages: list[Message] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    reflections: int = 0
    executed: int = 0
    reward: float = 0.0
    tokens: int = 0
    end: str = "steps"


async def play(
    llm: LLM,
    game: Game,
    opening: Sequence[Message],
    steps: int,
    sampling: Sampling,
    step: str,
    before: Sequence[str] = (),
    sample: int = 0,
    free: int = 0,
) -> Episode:
    """Play at most `steps` actions, from the start of the game or from where the actions `before` lead.

    A reflection is no step: it asks the model but not the game. After `free` of them further ones are steps,
    so that a model that does nothing else comes to an end: `steps + free` turns at most.
    Turns of `before` enter the conversation as bare actions; the episode and its token count exclude them.
    Raises EngineError.
    """
    conversation, episode = [*opening, *await asyncio.to_thread(_replay, game, before)], Episode()
    while len(episode.actions) - episode.reflections < steps and episode.end == "steps":
        try:
            [reply] = await llm.chat(conversation, step=step, sampling=sampling, sample_index=sample)
        except EngineError as e:
            if not e.refused or not episode.actions:
                raise
            episode.end = "refused"
            break
        turn, action = game.parse(reply.text)
        result = await asyncio.to_thread(game.step, action)
        conversation += exchange(turn, result.observation)
        episode.messages += conversation[-2:]
        episode.actions.append(action)
        if is_reflection(action) and episode.reflections < free:
            episode.reflections += 1
        else:
            episode.executed += bool(result.info.get("executed", True))
        episode.tokens += reply.completion_tokens
        episode.reward = result.reward
        if result.done:
            episode.end = "done"
    return episode


def loops(actions: Sequence[str], longest: int = LONGEST_LOOP) -> list[int]:
    """Return, for each length L from 1 to `longest`, how many runs of L actions are repeated right away."""
    done = [normalize_action(action) for action in actions]
    return [
        sum(done[i : i + n] == done[i + n : i + 2 * n] for i in range(len(done) - 2 * n + 1))
        for n in range(1, longest + 1)
    ]


def _replay(game: Game, before: Sequence[str]) -> list[Message]:
    game.start()
    return [m for action in before for m in exchange(game.bare_turn(action), game.step(action).observation)]
