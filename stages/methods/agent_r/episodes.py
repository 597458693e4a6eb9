"""One episode, played to its end, and what can be said of the actions in it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.engines.base import Message, Sampling
from pipeline.errors import EngineError
from pipeline.runner.llm import LLM
from stages.methods.agent_r.search.game import Game
from stages.methods.agent_r.search.turns import normalised, parse_turn

LONGEST_LOOP = 6


@dataclass(slots=True)
class Episode:
    """What was played after the opening. `end` is done, steps (there were no more) or refused (the conversation became too long)."""

    messages: list[Message] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
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
) -> Episode:
    """Play at most `steps` actions from the start of the game, or from where the actions `before` lead to. Raises EngineError.

    The turns of `before` are in the conversation as bare actions, and neither they nor their tokens are in the episode.
    """
    conversation = [*opening, *await asyncio.to_thread(_again, game, before)]
    episode = Episode()
    while len(episode.actions) < steps and episode.end == "steps":
        try:
            reply = (await llm.chat(conversation, step=step, sampling=sampling, sample_index=sample))[0]
        except EngineError as e:
            if not e.refused or not episode.actions:
                raise
            episode.end = "refused"
            break
        turn, action = parse_turn(reply.text)
        found = await asyncio.to_thread(game.step, action)
        said = [{"role": "assistant", "content": turn}, {"role": "user", "content": found.observation}]
        conversation += said
        episode.messages += said
        episode.actions.append(action)
        episode.executed += bool(found.info.get("executed", True))
        episode.tokens += reply.completion_tokens
        episode.reward = found.reward
        if found.done:
            episode.end = "done"
    return episode


def loops(actions: Sequence[str], longest: int = LONGEST_LOOP) -> list[int]:
    """Return for each length L from 1 to `longest` at how many places the L actions from there on are done twice running."""
    done = [normalised(action) for action in actions]
    return [
        sum(done[i : i + n] == done[i + n : i + 2 * n] for i in range(len(done) - 2 * n + 1))
        for n in range(1, longest + 1)
    ]


def _again(game: Game, before: Sequence[str]) -> list[Message]:
    game.start()
    said: list[Message] = []
    for action in before:
        said += [
            {"role": "assistant", "content": bare_turn(action)},
            {"role": "user", "content": game.step(action).observation},
        ]
    return said


def bare_turn(action: str) -> str:
    """Return a turn that is an action without a thought, as demonstrations and given beginnings have it."""
    return f"Action: {action}"
