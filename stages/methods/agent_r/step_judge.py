"""The judge of Agent-R (arXiv 2501.11425, section 3.1): the current policy says of one step of an episode whether it is good, bad or uncertain.

A judgement is the reply's last line, strictly. The environment's own solver can judge instead, to tell what the method gains from a judge
that knows the game.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from pipeline.engines.base import Sampling
from pipeline.errors import EngineError
from pipeline.runner.llm import LLM
from stages.methods.agent_r.search import Game, Node
from stages.methods.agent_r.search.turns import quoted
from stages.methods.agent_r.trajectories import steps_of

JUDGE = "agent_r/judge"
GOOD, UNCERTAIN, BAD = "good", "uncertain", "bad"
_JUDGEMENT = re.compile(r"judgement:\s*(good|bad|uncertain)\.?", re.IGNORECASE)


class StepJudge:
    """Judges the steps of one tree, each once, however many pairs it is in."""

    def __init__(self, llm: LLM, task: str, tokens: int) -> None:
        self._llm, self._task, self._tokens = llm, task, tokens
        self._asked: dict[int, asyncio.Task[dict[str, Any]]] = {}

    async def first_bad(self, way: Sequence[Node], after: int) -> tuple[int | None, list[dict[str, Any]]]:
        """Return the first step of `way` (from 1), of those after `after`, that is judged bad, or None; and the judgements up to it."""
        judgements = []
        for at in range(after + 1, len(way) + 1):
            node = way[at - 1]
            if node.id not in self._asked:
                self._asked[node.id] = asyncio.create_task(self._judge(way[: at - 1], node))
            judgements.append(await self._asked[node.id])
            if judgements[-1]["judgement"] == BAD:
                return at, judgements
        return None, judgements

    async def _judge(self, before: Sequence[Node], node: Node) -> dict[str, Any]:
        """Ask whether a step is good. What cannot be read is asked for once more, then it is uncertain: never bad (F15)."""
        asked: dict[str, Any] = {
            "task": self._task,
            "before": steps_of(before),
            "judged": steps_of([node])[0],
        }
        text, found = "", None
        for again in range(2):
            sampling = Sampling(
                temperature=self._llm.sampling.temperature if again else 0, max_tokens=self._tokens
            )
            try:
                text = (await self._llm.ask(JUDGE, sampling=sampling, sample_index=again, **asked))[
                    0
                ].text.strip()
            except EngineError as e:
                if not e.refused:
                    raise
                text = str(e)  # too long to be judged, as a rule
                break
            if found := judgement(text):
                break
        reason = quoted(" ".join(text.rpartition("\n")[0].split())) if found else ""
        return {
            "step": node.depth,
            "node": node.id,
            "judgement": found or UNCERTAIN,
            "reason": reason,
            "text": text,
            "read": found is not None,
        }


class OracleJudge:
    """Judges by the length of the solver's plan. Not part of the paper.

    Bad is a step after which there is no plan any more or a longer one, and one that could not be done; good one that shortens it. What leaves
    it as it was, or was done when there was none, is uncertain. In an environment that knows a single solution, leaving it counts as bad.
    """

    def __init__(self, game: Game) -> None:
        self._game, self._free = game, asyncio.Lock()

    async def first_bad(self, way: Sequence[Node], after: int) -> tuple[int | None, list[dict[str, Any]]]:
        """As `StepJudge.first_bad`."""
        async with self._free:  # one game for all pairs of a tree
            return await asyncio.to_thread(self._first_bad, way, after)

    def _first_bad(self, way: Sequence[Node], after: int) -> tuple[int | None, list[dict[str, Any]]]:
        self._game.start()
        for node in way[:after]:
            self._game.step(node.action)
        left, judgements = self._game.steps_left(), []
        for at, node in enumerate(way[after:], after + 1):
            executed = self._game.step(node.action).info.get("executed", True)
            before, left = left, self._game.steps_left()
            bad = before is not None and (left is None or left > before or (left == before and not executed))
            good = before is not None and left is not None and left < before
            text = f"steps to the goal before: {_count(before)}, after: {_count(left)}"
            judgements.append(
                {
                    "step": node.depth,
                    "node": node.id,
                    "judgement": BAD if bad else GOOD if good else UNCERTAIN,
                    "reason": "",
                    "text": text,
                    "read": True,
                }
            )
            if bad:
                return at, judgements
        return None, judgements


def judgement(text: str) -> str | None:
    """Return the label on the last line, None if that line is anything else."""
    found = _JUDGEMENT.fullmatch(text.strip().rpartition("\n")[2].strip())
    return found[1].lower() if found else None


def _count(steps: int | None) -> str:
    return "out of reach" if steps is None else str(steps)
