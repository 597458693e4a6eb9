"""Judges that look for the first bad step of a failed episode (Agent-R, arXiv 2501.11425, section 3.1).

The paper's is the current policy. One that was trained to act may no longer answer the question: the
untrained model may. The environment's solver shows what a perfect judge would be worth. See also
tree_judge.py.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Protocol

from pipeline import thoughts
from pipeline.engines.base import Sampling
from pipeline.errors import EngineError
from pipeline.runner.llm import LLM
from stages.environments.actions import unlabel
from stages.methods.agent_r.search import Game, Node
from stages.methods.agent_r.trajectories import steps_of

JUDGE = "agent_r/judge"
GOOD, UNCERTAIN, BAD = "good", "uncertain", "bad"
_MARKUP = r"(?:[^\w\n:\uff1a]|_)*"
_JUDGEMENT = re.compile(
    rf"{_MARKUP}judge?ment{_MARKUP}[:\uff1a]{_MARKUP}(good|bad|uncertain)(?![^\W_])[*_`\"')\]]*(.*)",
    re.IGNORECASE,
)
_REASON = re.compile(r"[-\u2013\u2014,;:.!(]|because\b", re.IGNORECASE)  # how what follows a label begins
_LABEL = re.compile(r"\b(?:good|bad|uncertain)\b", re.IGNORECASE)


class Judge(Protocol):
    """Looks for the first bad step of a failed episode."""

    async def first_bad(
        self, path: Sequence[Node], after: int, good: Sequence[Node]
    ) -> tuple[int | None, list[dict[str, Any]]]:
        """Return the first bad step of `path` (from 1) after step `after`, or None; and all judgements.

        `good` is what the good episode did from there on.
        """
        ...


class StepJudge:
    """The model as judge of one tree's steps, each judged once however many pairs it is in."""

    def __init__(self, llm: LLM, task: str, tokens: int) -> None:
        self._llm, self._task, self._tokens = llm, task, tokens
        self._judging: dict[int, asyncio.Task[dict[str, Any]]] = {}  # by node id

    async def first_bad(
        self, path: Sequence[Node], after: int, good: Sequence[Node] = ()
    ) -> tuple[int | None, list[dict[str, Any]]]:
        """As `Judge.first_bad`."""
        judgements = []
        for at in range(after + 1, len(path) + 1):
            node = path[at - 1]
            if node.id not in self._judging:
                self._judging[node.id] = asyncio.create_task(self._judge(path[: at - 1], node))
            judgements.append(await self._judging[node.id])
            if judgements[-1]["judgement"] == BAD:
                return at, judgements
        return None, judgements

    async def _judge(self, before: Sequence[Node], node: Node) -> dict[str, Any]:
        """Judge one step. An unparsable reply is sampled once more, then counts as uncertain, not as bad."""
        [judged] = steps_of([node])
        asked: dict[str, Any] = {"task": self._task, "before": steps_of(before), "judged": judged}
        text, label = "", None
        for attempt in range(2):
            temperature = self._llm.sampling.temperature if attempt else 0
            sampling = Sampling(temperature=temperature, max_tokens=self._tokens)
            try:
                [reply] = await self._llm.ask(JUDGE, sampling=sampling, sample_index=attempt, **asked)
            except EngineError as e:
                if not e.refused:
                    raise
                text = str(e)  # usually the episode is too long to be judged
                break
            text = thoughts.without(reply.text)
            if label := parse_judgement(text):
                break
        reason = unlabel(" ".join(text.rpartition("\n")[0].split())) if label else ""
        return judgement(node, label or UNCERTAIN, text, reason, label is not None)


class OracleJudge:
    """The environment's solver as judge, by the length of its plan. Not part of the paper.

    A step is bad if the plan grows or disappears, or if it could not be executed; good if the plan shrinks. A
    step that leaves the plan as it was, or is taken when there is none, is uncertain. In an environment with
    a single known solution, leaving it counts as bad.
    """

    def __init__(self, game: Game) -> None:
        self._game, self._free = game, asyncio.Lock()

    async def first_bad(
        self, path: Sequence[Node], after: int, good: Sequence[Node] = ()
    ) -> tuple[int | None, list[dict[str, Any]]]:
        """As `Judge.first_bad`."""
        async with self._free:  # all pairs of a tree share one game
            return await asyncio.to_thread(self._first_bad, path, after)

    def _first_bad(self, path: Sequence[Node], after: int) -> tuple[int | None, list[dict[str, Any]]]:
        self._game.start()
        for node in path[:after]:
            self._game.step(node.action)
        left, judgements = self._game.steps_left(), []
        for at, node in enumerate(path[after:], after + 1):
            executed = self._game.step(node.action).info.get("executed", True)
            before, left = left, self._game.steps_left()
            bad = before is not None and (left is None or left > before or (left == before and not executed))
            good = before is not None and left is not None and left < before
            text = f"steps to the goal before: {_count(before)}, after: {_count(left)}"
            judgements.append(judgement(node, BAD if bad else GOOD if good else UNCERTAIN, text))
            if bad:
                return at, judgements
        return None, judgements


def parse_judgement(text: str) -> str | None:
    """Return the label on the last line, in any markup, perhaps with a reason after it; None for any other
    line, and for one that names two labels.
    """
    match = _JUDGEMENT.fullmatch(text.strip().rpartition("\n")[2].strip())
    if match is None or _LABEL.search(rest := match[2].strip()) or (rest and not _REASON.match(rest)):
        return None
    return match[1].lower()


def judgement(node: Node, label: str, text: str, reason: str = "", read: bool = True) -> dict[str, Any]:
    """Return a judgement of the step that led to `node`, as stored with a record."""
    step = {"step": node.depth, "node": node.id, "judgement": label}
    return {**step, "reason": reason, "text": text, "read": read}


def _count(steps: int | None) -> str:
    return "out of reach" if steps is None else str(steps)
