"""best_of_n: the model sharpens itself on the answers that it holds for the best (Huang et al. 2024, arXiv
2412.01951).

    question --n samples--> answers --reward--> the best: training example
                                           \\--> the best and the worst: preference pair

generate samples n answers with their log-probabilities, verify gives each a reward and keeps the best of each
question. The truth, where a task has one, is noted for the report and never used for choosing, unless the
reward is a verifier that looks at it.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import Field

from pipeline.engines.base import Message
from pipeline.errors import ConfigError, EngineError
from pipeline.methods import Example, Method, Options, Stage
from pipeline.protocols import Work
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.runner.llm import LLM
from pipeline.stage import StageFunction
from stages.judges.combined import described
from stages.methods.best_of_n import agreement, plan, report
from stages.methods.best_of_n.rewards import (
    LOGLIKELIHOOD,
    PER_TOKEN,
    RANDOM,
    VERIFIER,
    VOTE,
    Reward,
    best_and_worst,
    likelihoods,
    truth,
    vote,
)
from stages.steps import filters, verifiers
from stages.steps.asking import SOLVE, ask
from stages.steps.samples import answer_fields


class BestOfNOptions(Options):
    """Options of `best_of_n`."""

    name: Literal["best_of_n"] = "best_of_n"
    samples: int = Field(8, ge=2)
    """n: answers sampled per question and round."""
    reward: Reward = "loglikelihood"
    """What chooses. loglikelihood: the model's own log-probability of the answer. loglikelihood_per_token:
    its mean per token. vote: the share of the question's answers that agree. verifier: the score of the
    recipe's verifier. random: nothing, the control."""
    keep_per_question: int = Field(1, ge=1)
    """c: best answers kept per question and round."""
    logprobs: bool | None = None
    """Ask for log-probabilities even if another reward chooses, so that the report compares them. Default:
    yes, but for endpoints."""


class BestOfN(Method):
    """Generate n answers, keep those with the highest reward."""

    name = "best_of_n"
    Options = BestOfNOptions
    options: BestOfNOptions
    question_prompts = (SOLVE,)

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        o = self.options
        if o.keep_per_question >= o.samples:
            raise ConfigError(
                f"method.keep_per_question: {o.keep_per_question} of {o.samples} samples leave nothing to "
                "choose; raise method.samples."
            )
        if o.logprobs is False and o.reward in (LOGLIKELIHOOD, PER_TOKEN):
            raise ConfigError(f"method.logprobs: reward {o.reward} needs log-probabilities; remove it.")
        if recipe.draw.by_pass_rate:
            raise ConfigError(
                "draw: best_of_n keeps the best answers to every question, right or wrong, so that questions "
                "have no pass rate; remove it."
            )
        # A step that decides by the score of each answer is replaced here; any other compares answers.
        if o.reward == VERIFIER and verifiers.stage(recipe).steps.keys() - {"decide"}:
            raise ConfigError(
                f"method.reward: verifier {described(recipe.verifier)} compares answers and gives none a "
                "score of its own; for a vote set method.reward: vote."
            )

    def stages(self) -> dict[str, Stage]:
        """Sample, filter, choose; there is nothing to critique."""
        o, verify = self.options, Stage()
        if o.reward == VERIFIER:
            verify = verifiers.stage(self.recipe)
        config = {"verifier": verify.config, "reward": o.reward, "keep": o.keep_per_question}
        return {
            "generate": Stage(self.generate, {}, (SOLVE,), {"samples": o.samples, "logprobs": self._scored}),
            "critique": Stage(),
            "filter": filters.stage(self.recipe),
            "verify": replace(
                verify,
                row=partial(self.judge, verify.row),
                steps={"best_and_worst": best_and_worst(o.reward, o.keep_per_question, self.recipe.seed)},
                config=config,
                summary=partial(agreement.summary, o.reward, self.recipe.evaluate.bootstrap),
            ),
        }

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """What a row of a stage asks of the model."""
        return plan.work(self.options, stage)

    @property
    def _scored(self) -> bool:
        """Whether answers are sampled with their log-probabilities."""
        o = self.options
        asked = not self.recipe.engine.implementation.is_endpoint if o.logprobs is None else o.logprobs
        return asked or o.reward in (LOGLIKELIHOOD, PER_TOKEN)

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One question in, n answers out."""
        sampling = llm.sampling.override(logprobs=0) if self._scored else llm.sampling
        sampled = await llm.chat(self.question(row), step=SOLVE, n=self.options.samples, sampling=sampling)
        if self._scored and any(c.logprobs is None for c in sampled):
            raise EngineError(
                "the engine returns no log-probabilities; use engine kind vllm, or another method.reward "
                "with method.logprobs: false"
            )
        rows = []
        for i, c in enumerate(sampled):
            made = {"sample": i, "model": llm.model, "rewards": likelihoods(c), **answer_fields(c)}
            rows.append(row.child("generate", f"{llm.round}/{i}", **made))
        return Kept(rows)

    async def judge(self, verify: StageFunction | None, row: Row, llm: LLM) -> Outcome:
        """Note the rewards of an answer; it is dropped if the one that chooses is not known."""
        reward, rewards, made = self.options.reward, {**row.payload["rewards"], RANDOM: 0.0}, row
        said, problem = vote(row.payload)
        if reward != VOTE:
            problem = "" if reward in (*rewards, VERIFIER) else "no_loglikelihood"
        if verify is not None:
            outcome = await verify(row, llm)
            if isinstance(outcome, Failed):
                return outcome
            made, verdict = _judged(row, outcome)
            problem, score = verdict["problem"], verdict.get("score")
            if not problem:
                rewards[VERIFIER] = float(verdict["correct"] if score is None else score)
        right = await truth(row.payload, self.recipe.verifier == "code_tests")
        found = {"rewards": rewards, "vote": said, "truth": right}
        if problem:
            return Dropped(problem, raw=row.payload["text"], adds=found)
        return Kept([Row(row.id, made.payload, row.parents).child("verify", 0, **found)])

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the question: the same when sampling, training and evaluating."""
        return ask(self.prompts, row.payload)

    def examples(self, row: Row) -> list[Example]:
        """Question and answer."""
        return [Example(self.question(row), [{"role": "assistant", "content": row.payload["text"]}])]

    def verified_by(self, round_: int) -> str:
        """What chose the answers."""
        o = self.options
        by = f"the score of {described(self.recipe.verifier)}" if o.reward == VERIFIER else o.reward
        return f"best {o.keep_per_question} of {o.samples} by {by}"

    def report(self, run: RunDir) -> None:
        """Write rewards.txt: how each reward agrees with the truth, and with length."""
        report.write(run)


def _judged(row: Row, outcome: Kept | Dropped) -> tuple[Row, dict[str, Any]]:
    """Return an answer as its verifier leaves it, and its verdict; what has none has the drop reason as its
    problem.
    """
    if isinstance(outcome, Kept):
        [made] = outcome.rows
        return made, made.payload["verdict"]
    return row, outcome.adds.get("verdict") or {"problem": outcome.reason}
