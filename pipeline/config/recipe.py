"""The recipe: every setting of a run. `selfloop iterate RECIPE --print-config` prints all values."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from pipeline.config import presets
from pipeline.config.data import Accumulate, Filters, HeldOut, Preferences, Source
from pipeline.config.engines import AnyEngine, VllmEngine
from pipeline.config.section import Section
from pipeline.config.tracking import Track
from pipeline.config.training import Train
from pipeline.config.verifiers import AnyVerifier
from pipeline.engines.base import Sampling

AnswerMark = Annotated[str, Field(pattern=r"^[^\W\d_][^\n:\uff1a]{0,59}$")]


class Model(Section):
    """The model to improve."""

    base: str = "smollm2-135m-instruct"
    """The packaged model's name, a folder, or a Hub id."""
    revision: str | None = None
    """Hub revision. A folder's revision is the hash of its files."""
    trust_remote_code: bool = False
    chat_template: str | None = None
    """A Jinja file, or the name of one of TRL's templates (qwen3_training). Its text is stored with the run.
    Generation, token counts, training and evaluation render with it, and trained models are saved with it.
    Default: the model's own. One that refuses or drops system messages gets them in front of the user's."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the template, such as {enable_thinking: false}, for all of the above. An endpoint gets
    them in each request's body (null in `engine.extra_body` takes them out again)."""
    thinking: Literal["strip", "keep", "train"] | None = None
    """What becomes of a model's thoughts (`<think>...</think>` and the like, or what an endpoint sends
    apart). Verification, filters and later prompts only see the answer without them; one that is cut off
    within its thought is dropped as unfinished_thought. strip: the template's switch (enable_thinking) is
    turned off, and thoughts are thrown away. keep: the switch is on, thoughts are stored with the row
    (payload key `thought`) and not trained: the model learns to answer without. train: they are stored, and
    trained with the answer that they led to. Default: train if the template thinks and can render thoughts
    within a trained answer; strip if it cannot, if it does not think unless told to, and for conversations of
    many turns. A template without thoughts of its own trains those that a model writes into its text, and
    leaves out what an endpoint sends apart."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _are_variables(cls, value: dict[str, Any]) -> dict[str, Any]:
        given = {"messages", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize"}
        for name in value:
            if not name.isidentifier() or name in given:
                raise ValueError(f"{name!r} cannot be set; expected variables such as enable_thinking")
        return value


class Evaluate(Section):
    """Evaluation on the held-out set, and on further sets that the model never trains on."""

    sets: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], Source] = Field(default_factory=dict)
    """Further sets by name, such as other reasoning_gym datasets; `limit` is their number of questions."""
    how: Literal["generate", "loglikelihood", "perplexity"] = "generate"
    """generate: write an answer and parse it. loglikelihood: choose the option with the highest
    log-probability per token, for models too small to keep to an answer format. perplexity: the probability
    per token (1 / perplexity) of the known solution, for texts that are neither right nor wrong."""
    verifier: AnyVerifier | None = None
    """What judges the answers. Default: the recipe's verifier. Where that asks a model, questions with known
    answers are still judged by those (their scorer, their tests), and only those without by the model."""
    engine: AnyEngine | None = None
    """Default: the recipe's engine, or a local vllm engine if that is an endpoint."""
    base_model: bool = True
    """Evaluate the untrained model as well."""
    max_tokens: PositiveInt | None = None
    """Default: `sampling.max_tokens`."""
    samples: NonNegativeInt = 0
    """Sampled answers per question for pass@k and maj@k, beside the greedy one."""
    k: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1, 4])
    """The k of pass@k and maj@k, up to `samples`."""
    temperature: PositiveFloat = 0.8
    """Of the sampled answers."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples for the 95% confidence intervals."""

    @model_validator(mode="after")
    def _nothing_is_sampled(self) -> "Evaluate":
        if self.how != "generate" and self.samples:
            raise ValueError(f"samples: nothing is sampled with how: {self.how}; leave samples at 0")
        return self


class Runner(Section):
    """How rows are processed. Nothing here changes the results."""

    workers: PositiveInt = 1
    """Stage workers (Ray actors)."""
    in_flight: PositiveInt = 256
    """Rows in flight per worker."""
    worker_cpus: NonNegativeFloat = 0
    """CPUs that Ray reserves per stage worker; 0 lets it run beside an engine that holds all of them."""
    part_rows: PositiveInt = 2000
    """Input rows per part file; after every 100 parts of a worker more, up to four times as many."""
    part_seconds: PositiveFloat = 30
    """Write a part at least this often; later, as above."""
    sync_seconds: PositiveFloat = 1.0
    """Finished requests are on disk within this time."""
    max_attempts: PositiveInt = 3
    """A row that kills its worker this often is recorded as failed."""
    max_failed_share: float = Field(0.5, ge=0, le=1)
    """Stop the run with the first error if a larger share of a stage's rows fails."""
    on_unanswered: Literal["stop", "fail"] = "stop"
    """For rows whose requests (timeout, 429, 5xx, no connection) are still unanswered after a second pass:
    stop, so that rerunning the command tries them again, or record them as failed."""
    no_progress_seconds: PositiveFloat = 900
    """Stop the run, naming what hangs, if nothing finishes for this long."""
    address: str | None = None
    """Ray address. Default: RAY_ADDRESS, or else a local Ray."""
    engine_pool: str | None = None
    """Use the engines that `selfloop serve` started under this name."""


class Draw(Section):
    """Which questions a round may draw, by pass rate: the share of right answers in the last round that asked
    a question. One that no round has asked is always drawn from; one out of bounds is not asked again."""

    min_pass_rate: float = Field(0.0, ge=0, le=1)
    """0.01 leaves out the questions that no answer solved."""
    max_pass_rate: float = Field(1.0, ge=0, le=1)
    """0.99 leaves out the questions that every answer solved."""

    @property
    def by_pass_rate(self) -> bool:
        """Whether the bounds leave anything out."""
        return (self.min_pass_rate, self.max_pass_rate) != (0.0, 1.0)

    @model_validator(mode="after")
    def _in_order(self) -> "Draw":
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(
                f"min_pass_rate {self.min_pass_rate} is above max_pass_rate {self.max_pass_rate}"
            )
        return self


class Recipe(Section):
    """One run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, lt=2**32)
    """Of every split, draw and shuffle. The seed that an engine samples with is `sampling.seed`."""
    rounds: NonNegativeInt = 2
    model: Model = Field(default_factory=Model)
    engine: AnyEngine = Field(default_factory=VllmEngine)
    tasks: Source
    demonstrations: Source | None = None
    """Real examples to train round 0 on."""
    held_out: HeldOut = Field(default_factory=HeldOut)
    questions_per_round: PositiveInt | None = None
    """Size of a seeded sample of the tasks, drawn for each round. Default: all tasks."""
    new_questions: bool = False
    """Never draw a task that an earlier round has drawn."""
    draw: Draw = Field(default_factory=Draw)
    sampling: Sampling = Field(default_factory=Sampling)
    method: dict[str, Any] = Field(default_factory=lambda: {"name": "direct"})
    """The method's name and its own options."""
    answer_marks: list[AnswerMark] = Field(default_factory=list)
    """Words before the colon of a line with the final answer, such as [答案, Answer]. All of them are read;
    demonstrations and prompts use the first ({{ answer_mark }} in a template). Default: Answer, also as Final
    answer. Boxes are read in any case."""
    verifier: AnyVerifier = "ground_truth"
    """ground_truth, task_scorer, majority_vote, code_tests, accept_all, or your own as `module:function`; or
    a section: of kind judge, pairwise_judge or reward_model, or several verifiers as {all: [...]},
    {any: [...]} or {weighted: [...], threshold: 0.5}."""
    filters: Filters = Field(default_factory=Filters)
    prompts: dict[str, str] = Field(default_factory=dict)
    """Templates to use instead of the shipped ones: name (direct/solve) to file or text; or a folder of
    them."""
    accumulate: Accumulate = Field(default_factory=Accumulate)
    preferences: Preferences = Field(default_factory=Preferences)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    track: Track = Field(default_factory=Track)
    runner: Runner = Field(default_factory=Runner)  # last: its last key shows that run.yaml is complete

    @model_validator(mode="before")
    @classmethod
    def _hold_out_test_split(cls, data: Any) -> Any:
        """With a preset, models are by default evaluated on its test split."""
        return presets.evaluated_on_test_split(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _complete(self) -> "Recipe":
        if self.new_questions and self.questions_per_round is None:
            raise ValueError(
                "new_questions: true needs questions_per_round; otherwise every round uses all questions"
            )
        if self.new_questions and self.draw.by_pass_rate:
            raise ValueError(
                "draw has no effect with new_questions: true, where every question is asked once; remove one"
            )
        if not isinstance(self.method.get("name"), str):
            raise ValueError("method.name is missing: expected a method's name, such as direct")
        return self
