"""Several verifiers as one: all of them, any of them, or their weighted scores.

Those that ask no model come first. Once the outcome is certain, no further model is asked.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from pipeline.config import AnyVerifier, VerifierSection
from pipeline.config.section import Section
from pipeline.config.verifiers import verifier_class
from pipeline.protocols import Asks
from pipeline.rows import Row
from pipeline.runner.llm import LLM, together
from pipeline.stage import Seat
from stages.judges.base import LOW_SCORE, Judged, Keeping, Verifier
from stages.steps import verifiers
from stages.steps.verifiers import Verdict


class Function(Verifier):
    """A verifier that is a plain function, by its name."""

    Config = VerifierSection
    config: str

    def __init__(self, config: str, label: str) -> None:
        super().__init__(config, label)
        self._score = verifiers.scorer(config)

    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Return the function's verdict."""
        verdict = await verifiers.verdict_of(self._score, row.payload)
        if verdict.correct:
            return Judged(verdict)
        reads = verdict.extracted is not None or row.payload.get("answer") is not None
        why = verifiers.found(verdict, row.payload) if reads else f"{self.config} does not approve"
        return Judged(verdict._replace(detail=verdict.detail or why), refused="wrong_answer")


def _member(value: str | VerifierSection) -> str | VerifierSection:
    """Refuse what needs a pass over all rows, which only the outermost verifier has."""
    if value == "majority_vote":
        raise ValueError("majority_vote counts the votes of all answers: it stands alone")
    if isinstance(value, str):
        return value
    if value.alone:
        raise ValueError(f"{value.kind} compares a question's answers with each other: it stands alone")
    if getattr(value, "top_share", None) is not None:
        raise ValueError(
            f"top_share of {value.kind} decides over all rows: set it on the outermost verifier, beside all, "
            "any or weighted; with threshold: null here the score alone decides"
        )
    return value


Member = Annotated[AnyVerifier, AfterValidator(_member)]


class AllConfig(Keeping):
    """Settings of `all`."""

    kind: Literal["all"] = "all"
    all: list[Member] = Field(min_length=1)
    """Verifiers that all have to approve. The score is the lowest of theirs."""

    def described(self) -> str:
        """Return the members."""
        return " and ".join(map(described, self.all))


class AnyConfig(Keeping):
    """Settings of `any`."""

    kind: Literal["any"] = "any"
    any: list[Member] = Field(min_length=1)
    """Verifiers one of which has to approve. The score is that of the first one which does."""

    def described(self) -> str:
        """Return the members."""
        return " or ".join(map(described, self.any))


class Weight(Section):
    """A verifier and how much its score counts."""

    verifier: Member
    weight: PositiveFloat = 1.0


class WeightedConfig(Keeping):
    """Settings of `weighted`."""

    kind: Literal["weighted"] = "weighted"
    weighted: list[Weight] = Field(min_length=1)
    """Verifiers with their weights. The score is the weighted mean of theirs."""
    threshold: float | None = 0.5
    """Approve answers with this score or a higher one. null: all."""

    def described(self) -> str:
        """Return the members with their weights."""
        return " + ".join(f"{w.weight:g} x {described(w.verifier)}" for w in self.weighted)


class _Combined(Verifier):
    """Members in the order in which they are asked."""

    def __init__(self, config: Any, label: str) -> None:
        super().__init__(config, label)
        before = label.removesuffix(config.kind)
        made = [make(one, f"{before}{n}.") for n, one in enumerate(self._configs(), 1)]
        self._members = sorted(made, key=lambda member: bool(member.seats))  # stable: cheap ones first
        self._order = [made.index(member) for member in self._members]
        self.prompts = tuple(dict.fromkeys(p for member in self._members for p in member.prompts))

    @abstractmethod
    def _configs(self) -> Sequence[str | VerifierSection]:
        """Return the members' settings."""

    @property
    def seats(self) -> dict[str, Seat]:
        """Those of all members."""
        return {name: seat for member in self._members for name, seat in member.seats.items()}

    def asks(self) -> tuple[Asks, ...]:
        """Return what all members ask; those after the first may not be asked."""
        asks = [ask for member in self._members for ask in member.asks()]
        after = bool(self._members and not self._members[0].seats)
        return tuple(a._replace(least=0) if i or after else a for i, a in enumerate(asks))


class AllOf(_Combined):
    """Approves what every member approves; the first refusal decides."""

    Config = AllConfig
    config: AllConfig

    def _configs(self) -> Sequence[str | VerifierSection]:
        return self.config.all

    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Ask one after the other, until one does not approve."""
        said: dict[str, dict[str, Any]] = {}
        scores = []
        for member in self._members:
            judged = await member.judge(row, llm)
            said |= judged.said
            if not judged.verdict.correct:
                return judged._replace(said=said)
            scores.append(score_of(judged.verdict))
            extracted = judged.verdict.extracted
        return Judged(Verdict(True, extracted, "", min(scores)), said)


class AnyOf(_Combined):
    """Approves what one member approves; the first approval decides."""

    Config = AnyConfig
    config: AnyConfig

    def _configs(self) -> Sequence[str | VerifierSection]:
        return self.config.any

    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Ask one after the other, until one approves. Otherwise a problem is the reason before a low score:
        an answer that one could not judge is not known to be wrong.
        """
        said: dict[str, dict[str, Any]] = {}
        refusals = []
        for member in self._members:
            judged = await member.judge(row, llm)
            said |= judged.said
            if judged.verdict.correct:
                return judged._replace(said=said)
            refusals.append(judged)
        unsure = (judged for judged in refusals if judged.verdict.problem)
        return next(unsure, refusals[-1])._replace(said=said)


class WeightedMean(_Combined):
    """Approves by the weighted mean of the members' scores; a problem that one of them names decides."""

    Config = WeightedConfig
    config: WeightedConfig

    def _configs(self) -> Sequence[str | VerifierSection]:
        return [w.verifier for w in self.config.weighted]

    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Ask all members that ask a model at once."""
        judged = [await m.judge(row, llm) for m in self._members if not m.seats]
        if not any(j.verdict.problem for j in judged):
            judged += await together(m.judge(row, llm) for m in self._members if m.seats)
        said = {label: what for j in judged for label, what in j.said.items()}
        if problem := next((j for j in judged if j.verdict.problem), None):
            return problem._replace(said=said)
        weights = [self.config.weighted[i].weight for i in self._order]
        score = sum(w * score_of(j.verdict) for w, j in zip(weights, judged, strict=True)) / sum(weights)
        threshold = self.config.threshold
        correct = threshold is None or score >= threshold
        detail = "" if correct else f"weighted score {score:.3f}, threshold {threshold:g}"
        return Judged(Verdict(correct, None, "", score, detail), said, LOW_SCORE)


def make(config: str | VerifierSection, place: str = "") -> Verifier:
    """Return the verifier that a recipe's setting describes. Its label is its kind after `place`, which is
    where it stands among others: "2.judge".
    """
    if isinstance(config, str):
        return Function(config, f"{place}{config}")
    return verifier_class(config.kind)(config, f"{place}{config.kind}")


def functions_in(config: str | VerifierSection) -> list[str]:
    """Return the names of the plain functions that a verifier consists of."""
    if isinstance(config, str):
        return [config]
    members = [*getattr(config, "all", ()), *getattr(config, "any", ())]
    members += [w.verifier for w in getattr(config, "weighted", ())]
    return [name for member in members for name in functions_in(member)]


def described(config: str | VerifierSection) -> str:
    """Return a verifier in a few words."""
    return config if isinstance(config, str) else config.described()


def score_of(verdict: Verdict) -> float:
    """Return a verdict's score, 1 or 0 where it has none."""
    return float(verdict.correct) if verdict.score is None else verdict.score
