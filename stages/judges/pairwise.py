"""A language model as judge of two answers to a question: each pair is shown in both orders.

Only a preference that survives the exchange counts. An answer's score is its share of won comparisons.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from pipeline.payload import Key, declare
from pipeline.protocols import Asks
from pipeline.rows import Dropped, Row
from pipeline.runner.llm import LLM, together
from pipeline.stage import DatasetStep
from stages.judges.base import JUDGEMENTS, UNREADABLE, Judged, Verifier
from stages.judges.judge import REASON_SHARE, Questioning
from stages.judges.reading import Preference, Unreadable, preference_schema, read_preference
from stages.judges.untrusted import asked, defused, fence
from stages.steps.grouping import by_question
from stages.steps.verifiers import Verdict

COMPARE = "judge/compare"
RIVALS = "rivals"
WON, LOST, TIE, INCONSISTENT, UNREAD = "won", "lost", "tie", "inconsistent", "unreadable"
declare({RIVALS: Key("verify", "verify", "id and text of the answers that a pairwise judge compares with")})
_WINNER = {"A": "B", "B": "A", "tie": "tie"}  # what the second order must say to agree with the first


class PairwiseConfig(Questioning):
    """Settings of `pairwise_judge`."""

    alone = True
    kind: Literal["pairwise_judge"] = "pairwise_judge"
    against: Literal["all", "first"] = "all"
    """Compare each two answers to a question (2 requests a pair), or each answer with the first."""
    threshold: float | None = Field(0.5, ge=0, le=1)
    """Approve answers that won this share of their consistent comparisons, ties half. null: all."""


class PairwiseJudge(Verifier):
    """Compares the answers to one question with each other."""

    Config = PairwiseConfig
    config: PairwiseConfig
    prompts = (COMPARE,)

    def completed(self, rows: Callable[[], Iterable[Row]], count: int) -> Iterator[Row]:
        """Yield the rows by question, each with the earlier answers that it is compared with."""
        before: list[Row] = []
        for row in by_question(rows, count):
            if before and before[0].payload["task_id"] != row.payload["task_id"]:
                before = []
            against = before if self.config.against == "all" else before[:1]
            rivals = [{"id": other.id, "text": other.payload["text"]} for other in against]
            yield Row(row.id, {**row.payload, RIVALS: rivals}, row.parents)
            before.append(row)

    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Compare the answer with its rivals; `tally` makes verdicts of all comparisons."""
        asked = (self._compare(row, rival, llm) for rival in row.payload[RIVALS])
        said: dict[str, Any] = {"row": row.id, "comparisons": await together(asked)}
        return Judged(Verdict(False, None, "", None), {self.label: said})

    async def _compare(self, row: Row, rival: Mapping[str, str], llm: LLM) -> dict[str, Any]:
        """Ask in both orders. Equal texts are a tie that nobody has to be asked about."""
        mine, other = defused(row.payload["text"]), defused(rival["text"])
        if mine.split() == other.split():
            return {"rival": rival["id"], "outcome": TIE, "said": []}
        orders = ((mine, other), (other, mine))
        first, second = await together(self._ask(row, llm, *order) for order in orders)
        if isinstance(first, Unreadable) or isinstance(second, Unreadable):
            problems = [reply.problem for reply in (first, second) if isinstance(reply, Unreadable)]
            return {"rival": rival["id"], "outcome": UNREAD, "said": [], "problem": problems[0]}
        consistent = second.better == _WINNER[first.better]
        outcome = {"A": WON, "B": LOST, "tie": TIE}[first.better] if consistent else INCONSISTENT
        said, reasons = [first.better, second.better], [first.reason, second.reason]
        return {"rival": rival["id"], "outcome": outcome, "said": said, "reasons": reasons}

    async def _ask(self, row: Row, llm: LLM, first: str, second: str) -> Preference | Unreadable:
        c, question = self.config, asked(row.payload)
        [reply] = await llm.at(self.label).ask(
            COMPARE,
            sampling=c.sampling(llm.sampling),
            json_schema=preference_schema() if c.structured else None,
            sample_index=0,
            question=question,
            options=[defused(option) for option in row.payload.get("options") or ()],
            first=first,
            second=second,
            fence=fence(question, *sorted((first, second))),
            rubric=c.rubric,
        )
        return read_preference(reply)

    def steps(self) -> dict[str, DatasetStep]:
        """Sum up each answer's comparisons, its own and those of its rivals."""
        return {"tally": self.tally}

    def tally(self, rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        """Give every row its verdict. The first pass counts outcomes by answer.

        Problems: unreadable_judgement if no comparison could be read, no_consistent_preference if those that
        could contradict themselves, no_rival for a question's only answer.
        """
        outcomes: dict[str, dict[str, int]] = {}
        mirrored = {WON: LOST, LOST: WON}
        for row in rows():
            said = row.payload[JUDGEMENTS][self.label]
            for c in said["comparisons"]:
                for answer, outcome in (
                    (said["row"], c["outcome"]),
                    (c["rival"], mirrored.get(c["outcome"], c["outcome"])),
                ):
                    counts = outcomes.setdefault(answer, {})
                    counts[outcome] = counts.get(outcome, 0) + 1
        for row in rows():
            said = row.payload[JUDGEMENTS][self.label]
            verdict = self._verdict(outcomes.get(said["row"], {}))
            said = {**said, "score": verdict.score, "approved": verdict.correct}
            payload = {**row.payload, "verdict": {**verdict.to_payload(), "detail": verdict.detail}}
            yield Row(row.id, {**payload, JUDGEMENTS: {self.label: said}}, row.parents), None

    def _verdict(self, counts: Mapping[str, int]) -> Verdict:
        won, lost, tie = (counts.get(outcome, 0) for outcome in (WON, LOST, TIE))
        listed = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
        if consistent := won + lost + tie:
            score = (won + tie / 2) / consistent
            right = self.config.threshold is None or score >= self.config.threshold
            return Verdict(right, None, "", score, f"comparisons: {listed}")
        if not counts:
            return Verdict(False, None, "no_rival", None, "the only answer to its question")
        problem = "no_consistent_preference" if counts.get(INCONSISTENT) else UNREADABLE
        return Verdict(False, None, problem, None, f"comparisons: {listed}")

    def asks(self) -> tuple[Asks, ...]:
        """Two requests per rival; how many rivals a row has depends on the answers to its question."""
        limit = self.config.max_tokens
        return (Asks(COMPARE, least=0, most=2, max_tokens=limit, share=REASON_SHARE),)
