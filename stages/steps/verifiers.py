"""Verifiers: is the answer of a row right? By the ground truth, the task's own scorer, or the vote of the
other answers.

A verifier is a plain function from a payload to a Verdict. A recipe names one of these or its own: `verifier:
module:function`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from typing import Any, NamedTuple

from pipeline.config import Recipe, VerifierSection
from pipeline.errors import ConfigError, DataError
from pipeline.limited import CallError, OutOfBudgetError, call
from pipeline.registry import resolve
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.stage import Stage
from stages import answers
from stages.steps.groups import decided

VERSION = 2
MIN_VOTES = 2


class Verdict(NamedTuple):
    """`extracted` is the marked answer (None: unreadable), `problem` why it cannot be right, `score` the
    scorer's, if any, `detail` what was found wrong, for people.

    An answer that is not correct and has no `problem` counts as wrong, and may become the rejected side of a
    preference pair. One that cannot be compared with the truth (70% with 70) has the problem not_comparable.
    """

    correct: bool
    extracted: str | None
    problem: str
    score: float | None
    detail: str = ""

    def to_payload(self) -> dict[str, Any]:
        """Return what a row keeps of it; the detail goes with the row that is dropped."""
        return {name: getattr(self, name) for name in ("correct", "extracted", "problem", "score")}


Scorer = Callable[[dict[str, Any]], Verdict]


def scorer(name: str | VerifierSection) -> Scorer:
    """Return the function that scores one payload, by its registered name or as 'module:function'.

    A majority vote cannot judge a single row: that name is registered as ground_truth, which is what
    evaluation needs. A function of the user's own raises ConfigError if it returns anything but a Verdict.
    """
    if not isinstance(name, str):
        raise ConfigError(
            f"verifier {name.kind} asks a model, and a function is needed here: ground_truth, task_scorer, "
            "code_tests, or your own as 'module:function'."
        )
    function = resolve("verifier", name)
    return _checked(name, function) if ":" in name else function


def _checked(name: str, score: Callable[[dict[str, Any]], Any]) -> Scorer:
    @wraps(score)
    def checked(payload: dict[str, Any]) -> Verdict:
        verdict = score(payload)
        if not (
            isinstance(verdict, Verdict)
            and isinstance(verdict.correct, bool)
            and isinstance(verdict.extracted, str | None)
            and isinstance(verdict.problem, str)
        ):
            raise ConfigError(
                f"verifier {name} returned {verdict!r:.200}; expected a stages.steps.verifiers.Verdict of "
                "True or False, a text or None, a text ('' for no problem), and a number or None"
            )
        return verdict

    return checked


def stage(recipe: Recipe) -> Stage:
    """Return the verify stage for `recipe.verifier`; stages/judges makes those of sections.

    Rows that pass carry the verdict in payload["verdict"].

    Drop reasons: wrong_answer or the verdict's problem, such as not_comparable; of a majority vote: minority,
    not_comparable, tie, too_few_votes or the problem.
    """
    if not isinstance(recipe.verifier, str):
        from stages.judges.stage import judging  # whose verifiers are made of those here

        return judging(recipe)
    if recipe.verifier == "majority_vote":
        config = {"verifier": recipe.verifier, "min_votes": MIN_VOTES}
        return Stage(_vote, {"majority_vote": majority_vote}, config=config, version=VERSION)
    verify = partial(_verify, scorer(recipe.verifier))
    return Stage(row=verify, config={"verifier": recipe.verifier}, version=VERSION)


def verifiers_in(verify: Stage, recipe: Recipe) -> list[str]:
    """Return the functions by which a stage made by `stage` judges each row; [] for any other and a vote."""
    if getattr(verify.row, "func", None) is _verify:
        return [verify.config["verifier"]]
    if isinstance(recipe.verifier, str):
        return []
    from stages.judges import combined, stage

    return combined.functions_in(recipe.verifier) if stage.is_judging(verify) else []


async def _verify(score: Scorer, row: Row, llm: LLM) -> Outcome:
    verdict = await verdict_of(score, row.payload)
    if verdict.correct:
        return Kept([row.child("verify", 0, verdict=verdict.to_payload())])
    detail, adds = verdict.detail or found(verdict, row.payload), {"verdict": verdict.to_payload()}
    return Dropped(verdict.problem or "wrong_answer", detail, row.payload["text"], adds)


async def verdict_of(score: Scorer, payload: dict[str, Any]) -> Verdict:
    """Return a verdict. One that waits for other processes must not keep the worker's other rows waiting."""
    return await asyncio.to_thread(score, payload) if getattr(score, "waits", False) else score(payload)


def found(verdict: Verdict, payload: dict[str, Any]) -> str:
    """Return what was found in a wrong answer, for people."""
    return f"extracted {verdict.extracted!r}, expected {payload.get('answer')!r}"


def ground_truth(payload: dict[str, Any]) -> Verdict:
    """Compare the marked answer with the ground truth by value. Raises DataError for a task without one."""
    if payload.get("answer") is None:
        raise DataError(
            f"task {payload.get('task_id')!r} has no ground truth: verifier "
            "ground_truth needs an answer for every task. "
            "Name its column (tasks.columns.answer), or use verifier: majority_vote, task_scorer or {kind: "
            "judge}."
        )
    extracted, problem = read_answer(payload)
    if extracted is None:
        return Verdict(False, None, problem, None)
    kind, options = payload["answer_type"], payload.get("options")
    truths = payload.get("answers") or [payload["answer"]]
    why = [answers.difference(extracted, truth, kind, options) for truth in truths]
    problem = "" if "" in why else next((w for w in why if w != "wrong"), "")
    return Verdict("" in why, extracted, problem, None)


def task_scorer(payload: dict[str, Any]) -> Verdict:
    """Let the task's own reasoning_gym data set score the marked answer; correct from a score of 1.

    The scorer runs within a CPU time budget, since some of them evaluate what the model wrote. Further
    problems: scorer_error, scorer_out_of_time. Raises DataError for a task that is not from reasoning_gym.
    """
    source, entry = payload.get("source") or {}, payload.get("entry") or {}
    if not has_scorer(payload):
        raise DataError(
            f"task {payload.get('task_id')!r} has no scorer of its own: verifier task_scorer works with "
            "tasks.source: reasoning_gym. Use verifier: ground_truth, or your own as 'module:function'."
        )
    extracted, problem = read_answer({**payload, "answer": entry.get("answer")}, "text")
    if extracted is None:
        return Verdict(False, None, problem, None)
    extracted = _as_written(extracted, str(entry.get("answer")))
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


def accept_all(payload: dict[str, Any]) -> Verdict:
    """Keep whatever the filters keep: the control that shows what verification is worth.

    It judges nothing, so evaluation goes by the known answers.
    """
    return Verdict(True, read_answer(payload).answer, "", None)


def has_scorer(payload: dict[str, Any]) -> bool:
    """Tell whether a task comes from a reasoning_gym data set, which scores its answers itself."""
    source = payload.get("source") or {}
    return source.get("source") == "reasoning_gym" and bool(source.get("dataset") and payload.get("entry"))


def _as_written(extracted: str, truth: str) -> str:
    """Return an answer without a full stop and quotes that the truth has not.

    Many scorers compare texts exactly.
    """
    if extracted.endswith(".") and not truth.endswith("."):
        extracted = extracted[:-1].rstrip()
    quoted = len(extracted) > 2 and extracted[0] == extracted[-1] and extracted[0] in "\"'"
    return extracted[1:-1] if quoted and truth[:1] != extracted[0] else extracted


def read_answer(payload: dict[str, Any], answer_type: str | None = None) -> answers.Extraction:
    """Return the marked answer in payload["text"], as its task's answers are marked and written."""
    kind = answer_type or payload["answer_type"]
    marks, lines = payload.get("answer_marks") or (), answers.lines_of(payload.get("answer"))
    return answers.extract(payload["text"], kind, payload.get("options"), marks, lines)


def judge_loosely(verifier: str, payload: dict[str, Any], strict: Verdict) -> bool | None:
    """Tell whether an answer is right if the text is read loosely (`answers.guess`): a measure of ability
    where a model does not keep to the format. None for programs, and for a verifier of the user's own, which
    reads for itself.
    """
    if ":" in verifier or verifier == "code_tests":
        return None
    if strict.correct:
        return True
    kind, marks, truth = payload["answer_type"], payload.get("answer_marks") or (), payload.get("answer")
    if verifier == "task_scorer" and (truth is None or answers.check_truth(truth, kind)):
        kind = "text"
    found = answers.guess(payload["text"], kind, payload.get("options"), marks)
    if found is None:
        return False
    return scorer(verifier)({**payload, "text": answers.mark(found, marks)}).correct


async def _vote(row: Row, llm: LLM) -> Outcome:
    """Put the row's vote into payload["vote"]; an unreadable answer has none."""
    extracted, problem = read_answer(row.payload)
    if extracted is None:
        return Dropped(problem, raw=row.payload["text"])
    key = answers.normalized(extracted, row.payload["answer_type"], row.payload.get("options"))
    return Kept([row.child("verify", 0, vote={"extracted": extracted, "key": key})])


def majority_vote(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    """Keep the answers that agree with the most frequent one of their question; the ground truth is not used.

    That answer needs MIN_VOTES and no tie (arXiv 2410.02108). The verdict's score is its share of the votes.
    Memory is bounded (groups).
    """
    for row, found in decided(rows, _entry, _count):
        (winner, most), other, votes, share, said = found
        vote, text = row.payload["vote"], row.payload["text"]
        if most < MIN_VOTES:
            yield (
                row,
                Dropped("too_few_votes", f"{most} for the most frequent answer, {MIN_VOTES} needed", text),
            )
        elif other and other[1] == most:
            yield row, Dropped("tie", f"{winner} and {other[0]} have {most} votes each", text)
        elif vote["key"] != winner:
            detail = f"{vote['extracted']} has {votes} votes, {winner} {most}"
            why = _unlike(row, said)
            verdict = Verdict(False, vote["extracted"], "" if why == "minority" else why, share)
            yield row, Dropped(why, detail, text, {"verdict": verdict.to_payload()})
        else:
            verdict = Verdict(True, vote["extracted"], "", share)
            yield Row(row.id, {**row.payload, "verdict": verdict.to_payload()}, row.parents), None


def _entry(row: Row) -> tuple[str, tuple[str, str]]:
    vote = row.payload["vote"]
    return row.payload["task_id"], (vote["key"], vote["extracted"])


def _count(cast: list[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Return for each vote on a question: the winner and the runner-up with their votes, how many votes its
    own answer has and which share that is, and the words in which the winner is first said.
    """
    counts, said = Counter(key for key, _ in cast), dict(reversed(cast))
    first, *others = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    other, total = (others[0] if others else None), counts.total()
    return [(first, other, counts[key], counts[key] / total, said[first[0]]) for key, _ in cast]


def _unlike(row: Row, winner: str) -> str:
    """Return minority, or not_comparable for a vote that may say the same as the winner (70% and 70)."""
    kind, mine = row.payload.get("answer_type"), row.payload["vote"]["extracted"]
    unsure = kind and answers.difference(mine, winner, kind, row.payload.get("options")) == "not_comparable"
    return "not_comparable" if unsure else "minority"
