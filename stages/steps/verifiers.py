"""Verifiers: is the answer of a row right? By the ground truth, the task's own scorer, or the vote of the
other answers.

A verifier is a plain function from a payload to a Verdict. A recipe names one of these or its own: `verifier:
module:function`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from pipeline.config import Recipe
from pipeline.errors import ConfigError, DataError
from pipeline.limited import CallError, OutOfBudgetError, call
from pipeline.registry import resolve
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.stage import Stage
from stages import answers

MIN_VOTES = 2


class Verdict(NamedTuple):
    """`extracted` is the marked answer (None: unreadable), `problem` why it cannot be right, `score` the
    scorer's, if any.

    An answer that is not correct and has no `problem` counts as wrong, and may become the rejected side of a
    preference pair.
    """

    correct: bool
    extracted: str | None
    problem: str
    score: float | None


Scorer = Callable[[dict[str, Any]], Verdict]


def scorer(name: str) -> Scorer:
    """Return the function that scores one payload, by its registered name or as 'module:function'.

    A majority vote cannot judge a single row: that name is registered as ground_truth, which is what
    evaluation needs.
    """
    return resolve("verifier", name)


def stage(recipe: Recipe) -> Stage:
    """Return the verify stage for `recipe.verifier`. Rows that pass carry the verdict in payload["verdict"].

    Drop reasons: wrong_answer or the verdict's problem; of a majority vote: minority, tie, too_few_votes or
    the problem.
    """
    if recipe.verifier == "majority_vote":
        config = {"verifier": recipe.verifier, "min_votes": MIN_VOTES}
        return Stage(row=_vote, steps={"majority_vote": majority_vote}, config=config)
    return Stage(row=partial(_verify, scorer(recipe.verifier)), config={"verifier": recipe.verifier})


async def _verify(score: Scorer, row: Row, llm: LLM) -> Outcome:
    verdict = score(row.payload)
    if not isinstance(verdict, Verdict):
        name = getattr(score, "__name__", score)
        raise ConfigError(f"a verifier returns a stages.steps.verifiers.Verdict; {name} returned {verdict!r}")
    if verdict.correct:
        return Kept([row.child("verify", 0, verdict=verdict._asdict())])
    detail = f"extracted {verdict.extracted!r}, expected {row.payload.get('answer')!r}"
    return Dropped(verdict.problem or "wrong_answer", detail, row.payload["text"])


def ground_truth(payload: dict[str, Any]) -> Verdict:
    """Compare the marked answer with the ground truth by value. Raises DataError for a task without one."""
    if payload.get("answer") is None:
        raise DataError(
            f"task {payload.get('task_id')!r} has no ground truth: verifier "
            "ground_truth needs an answer for every task. "
            "Name its column (tasks.columns.answer), or use verifier: majority_vote or task_scorer."
        )
    extracted, problem = _extract(payload)
    if extracted is None:
        return Verdict(False, None, problem, None)
    kind, options = payload["answer_type"], payload.get("options")
    truths = payload.get("answers") or [payload["answer"]]
    whys = [answers.difference(extracted, truth, kind, options) for truth in truths]
    if "" in whys:
        return Verdict(True, extracted, "", None)
    return Verdict(False, extracted, next((why for why in whys if why != "wrong"), ""), None)


def task_scorer(payload: dict[str, Any]) -> Verdict:
    """Let the task's own reasoning_gym data set score the marked answer; correct from a score of 1.

    The scorer runs within a CPU time budget, since some of them evaluate what the model wrote. Further
    problems: scorer_error, scorer_out_of_time. Raises DataError for a task that is not from reasoning_gym.
    """
    source, entry = payload.get("source") or {}, payload.get("entry")
    if source.get("source") != "reasoning_gym" or not source.get("dataset") or not entry:
        raise DataError(
            f"task {payload.get('task_id')!r} has no scorer of its own: "
            "verifier task_scorer works with tasks.source: "
            "reasoning_gym. Use verifier: ground_truth, or your own as 'module:function'."
        )
    extracted, problem = answers.extract(payload["text"], "text")
    if extracted is None:
        return Verdict(False, None, problem, None)
    if extracted.endswith(".") and not str(entry.get("answer")).endswith("."):
        extracted = extracted[:-1].rstrip()  # the end of a sentence; many scorers compare texts exactly
    try:
        task = {"task_id": payload.get("task_id"), "source": source, "entry": entry}
        score = call("stages.tasks.scoring:score_answer", task, extracted)
    except OutOfBudgetError:
        return Verdict(False, extracted, "scorer_out_of_time", None)
    except CallError as e:
        if e.kind == DataError.__name__:  # about the task, not about the answer
            raise DataError(e.detail) from e
        return Verdict(False, extracted, "scorer_error", None)
    return Verdict(score >= 1.0, extracted, "", score)


async def _vote(row: Row, llm: LLM) -> Outcome:
    """Put the row's vote into payload["vote"]; an unreadable answer has none."""
    extracted, problem = _extract(row.payload)
    if extracted is None:
        return Dropped(problem, raw=row.payload["text"])
    key = answers.normalized(extracted, row.payload["answer_type"], row.payload.get("options"))
    return Kept([row.child("verify", 0, vote={"extracted": extracted, "key": key})])


def majority_vote(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    """Keep the answers that agree with the most frequent one of their question; the ground truth is not used.

    That answer needs MIN_VOTES and no tie (arXiv 2410.02108). The verdict's score is its share of the votes.
    The first of two passes counts keys, so that no answer text is held in memory.
    """
    votes: dict[str, Counter[str]] = {}
    for row in rows():
        votes.setdefault(row.payload["task_id"], Counter())[row.payload["vote"]["key"]] += 1
    for row in rows():
        counts, vote, text = votes[row.payload["task_id"]], row.payload["vote"], row.payload["text"]
        (winner, most), *others = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if most < MIN_VOTES:
            yield (
                row,
                Dropped("too_few_votes", f"{most} for the most frequent answer, {MIN_VOTES} needed", text),
            )
        elif others and others[0][1] == most:
            yield row, Dropped("tie", f"{winner} and {others[0][0]} have {most} votes each", text)
        elif vote["key"] != winner:
            mine = counts[vote["key"]]
            yield row, Dropped("minority", f"{vote['extracted']} has {mine} votes, {winner} {most}", text)
        else:
            verdict = Verdict(True, vote["extracted"], "", most / counts.total())
            yield Row(row.id, {**row.payload, "verdict": verdict._asdict()}, row.parents), None


def _extract(payload: dict[str, Any]) -> answers.Extraction:
    return answers.extract(payload["text"], payload["answer_type"], payload.get("options"))
