"""What an answer is worth without an answer key, and the choice of a question's best and worst by that.

payload["rewards"] has every reward that is known, so that a report can compare them; one of them chooses.
payload["truth"] (None: unknown) says what the task itself knows about the answer: it is for the report alone.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from pipeline.engines.base import Completion
from pipeline.ids import unit_interval
from pipeline.payload import Key, declare
from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages import answers
from stages.steps import verifiers
from stages.steps.code_tests import code_tests

LOGLIKELIHOOD, PER_TOKEN, VOTE = "loglikelihood", "loglikelihood_per_token", "vote"
VERIFIER, RANDOM = "verifier", "random"
Reward = Literal["loglikelihood", "loglikelihood_per_token", "vote", "verifier", "random"]
WORST, NOT_BEST = "worst", "not_best"  # drop reasons; stages/rounds/judged.py pairs such answers

declare(
    {
        "rewards": Key("generate, verify", "verify", "rewards of the answer by name (best_of_n)"),
        "truth": Key("verify", "reports", "whether the answer is right; None: unknown (best_of_n)"),
    }
)


class _Answer(NamedTuple):
    reward: float
    draw: float  # settles ties
    id: str


def likelihoods(completion: Completion) -> dict[str, float]:
    """Return the log-probability of an answer, thoughts included, in all and per token; {} if unknown."""
    logprobs = completion.logprobs
    if not logprobs or not math.isfinite(total := math.fsum(logprobs)):
        return {}
    return {LOGLIKELIHOOD: total, PER_TOKEN: total / len(logprobs)}


def vote(payload: dict[str, Any]) -> tuple[dict[str, str] | None, str]:
    """Return what an answer votes for (see payload key `vote`), or None and why it cannot be read."""
    extracted, problem = verifiers.read_answer(payload)
    if extracted is None:
        return None, problem
    key = answers.normalized(extracted, payload["answer_type"], payload.get("options"))
    return {"extracted": extracted, "key": key}, ""


async def truth(payload: dict[str, Any], by_tests: bool) -> bool | None:
    """Tell whether an answer is right, by the task's own tests, scorer or ground truth; None without one."""
    if by_tests and payload.get("tests"):
        return (await asyncio.to_thread(code_tests, payload)).correct
    if verifiers.has_scorer(payload):
        return verifiers.task_scorer(payload).correct
    return verifiers.ground_truth(payload).correct if payload.get("answer") is not None else None


def best_and_worst(reward: str, keep: int, seed: int) -> DatasetStep:
    """Return the step that keeps the `keep` answers of each question with the highest reward.

    The others are dropped as not_best, the last as worst if its reward is below that of all that are kept.
    Ties are settled by `seed` and ids. The verdict's score is the reward. Memory: a few numbers per answer.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        votes = votes_of(rows())
        ranked: dict[str, list[_Answer]] = {}
        for row in rows():
            value = with_vote(row, votes)[reward]
            draw = unit_interval(seed, "best_of_n", row.id)
            ranked.setdefault(row.payload["task_id"], []).append(_Answer(-value, draw, row.id))
        places: dict[str, str] = {}
        for several in ranked.values():
            several.sort()
            lowest = several[-1].reward > several[min(keep, len(several)) - 1].reward
            places |= {a.id: _reason(i, len(several), keep, lowest) for i, a in enumerate(several)}
        for row in rows():
            rewards, why = with_vote(row, votes), places[row.id]
            said = row.payload["vote"] or {}
            verdict = verifiers.Verdict(not why, said.get("extracted"), "", rewards[reward]).to_payload()
            made = {**row.payload, "rewards": rewards, "verdict": {**verdict, "by": reward}}
            detail = f"{reward} {rewards[reward]:.4g}"
            yield Row(row.id, made, row.parents), Dropped(why, detail, row.payload["text"]) if why else None

    return step


def votes_of(rows: Iterable[Row]) -> dict[str, Counter[str]]:
    """Count the answers that agree, by question and key (see payload key `vote`)."""
    votes: dict[str, Counter[str]] = {}
    for row in rows:
        if said := row.payload["vote"]:
            votes.setdefault(row.payload["task_id"], Counter())[said["key"]] += 1
    return votes


def with_vote(row: Row, votes: dict[str, Counter[str]]) -> dict[str, float]:
    """Return an answer's rewards with the share of its question's votes that agree with it."""
    rewards, said = row.payload["rewards"], row.payload["vote"]
    if said is None:
        return rewards
    counts = votes[row.payload["task_id"]]
    return {**rewards, VOTE: counts[said["key"]] / counts.total()}


def _reason(place: int, of: int, keep: int, lowest: bool) -> str:
    """Return why the answer at a place is dropped; "" if it is kept."""
    if place < keep:
        return ""
    return WORST if place == of - 1 and lowest else NOT_BEST
