"""The recipe: every setting of a run, typed, with its default and its meaning. `--print-config` shows all of it."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.engines.base import Sampling

_SECRET = re.compile(
    "key|token|secret|sig|auth|pass|code|cred", re.IGNORECASE
)  # in the name of a query parameter


class Section(BaseModel):
    """Base of all sections: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class Model(Section):
    """The model that is improved."""

    base: str = Field("smollm2-135m-instruct", description="the packaged model's name, a folder, or a Hub id")
    revision: str | None = Field(
        None, description="Hub revision; a folder's revision is the hash of its files"
    )
    trust_remote_code: bool = False


class EngineSection(Section):
    """What all engines have in common."""

    max_retries: int = Field(5, ge=0, description="further tries of a request after a retryable error")


class VllmEngine(EngineSection):
    """AsyncLLM in Ray actors, on GPUs or the CPU."""

    kind: Literal["vllm"] = "vllm"
    request_timeout: float | None = Field(
        None,
        gt=0,
        description="seconds from asking to answer, the engine's queue included; default: none, runner.no_progress_seconds watches",
    )
    replicas: int = Field(1, ge=1)
    tensor_parallel_size: int = Field(1, ge=1)
    pipeline_parallel_size: int = Field(1, ge=1)
    cpu_cores: int | None = Field(
        None,
        ge=1,
        description="cores for one replica on a machine without GPU; default: all of them, shared out",
    )
    cpu_kv_gib: float | None = Field(
        None,
        gt=0,
        description="KV cache of one CPU replica in GiB; default: what all sequences at their longest take, twice, within a quarter of the free memory",
    )
    gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs of one replica; default: tensor x pipeline parallel size, 0 without GPUs",
    )
    start_timeout: float = Field(900, gt=0, description="seconds until the engine must be ready")
    args: dict[str, Any] = Field(default_factory=dict, description="any field of vLLM's AsyncEngineArgs")


class OpenaiEngine(EngineSection):
    """Any OpenAI-compatible endpoint."""

    kind: Literal["openai"]
    base_url: str = Field(description="such as http://host:8000/v1")
    model: str = Field(description="the name the endpoint knows the model by")
    api_key_env: str | None = Field(None, description="name of the environment variable that holds the key")
    request_timeout: float = Field(600, gt=0, description="seconds one request may take, retries not counted")
    concurrency: int = Field(64, ge=1, description="requests in flight at once, per stage worker")
    connect_timeout: float = Field(10, gt=0)
    backoff: float = Field(
        0.5, ge=0, description="seconds before the first retry; doubles, with jitter, up to 60"
    )
    extra_body: dict[str, Any] = Field(default_factory=dict, description="sent with every request")

    @model_validator(mode="after")
    def _no_credentials(self) -> "OpenaiEngine":
        if (
            "@" in self.base_url.partition("://")[2].partition("/")[0]
        ):  # said before anything is stored, and without the URL
            raise ValueError(
                "base_url holds credentials, and would be stored with the run: take them out, use api_key_env"
            )
        names = [name for name, _ in parse_qsl(self.base_url.partition("?")[2], keep_blank_values=True)]
        if secret := next((name for name in names if _SECRET.search(name)), None):
            raise ValueError(
                f"base_url has {secret!r} in its query, which would be stored with the run: take it out, use api_key_env (sent as a bearer token)"
            )
        return self


class ScriptedEngine(EngineSection):
    """Deterministic answers without a model: for tests, fault tests and overhead benchmarks."""

    kind: Literal["scripted"]
    answers: str = Field(
        "hash", description="'hash', or 'module:function' from (request, sample index) to text"
    )
    latency: float = Field(0.0, ge=0, description="seconds one request takes")
    jitter: float = Field(0.0, ge=0, description="share of the latency that varies, by request hash")
    fail_share: float = Field(
        0.0, ge=0, le=1, description="share of requests whose first attempt fails, retryably"
    )
    reject_share: float = Field(0.0, ge=0, le=1, description="share of requests that are refused for good")
    kill_on: str | None = Field(
        None, description="a request whose text contains this kills the process it runs in"
    )
    tokens: int = Field(16, ge=0, description="completion tokens it claims")


Engine = Annotated[VllmEngine | OpenaiEngine | ScriptedEngine, Field(discriminator="kind")]


class Columns(Section):
    """Which columns of a file hold what. A missing id column gives ids from the content."""

    question: str = "question"
    answer: str | None = Field("answer", description="null when there is no ground truth")
    id: str | None = None
    solution: str | None = Field(
        None, description="worked text of a demonstration; the answer is marked after it when it is not in it"
    )
    options: str | None = Field(None, description="list of option texts of a multiple-choice question")
    document: str | None = Field(
        None,
        description="what a question is about: intervals are then bootstrapped over documents, not over questions",
    )


class Source(Section):
    """Where tasks or demonstrations come from."""

    source: str = Field(
        description="reasoning_gym, environment, jsonl, csv, parquet, hf, documents, or your own as 'module:function'"
    )
    path: str | None = Field(None, description="file, glob or folder; Hub name for hf")
    dataset: str | None = Field(None, description="name of the reasoning_gym dataset, or of the environment")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of the source (reasoning_gym config, hf split or name; of environment: train, test, oracle, environment)",
    )
    columns: Columns = Field(default_factory=Columns)
    limit: int | None = Field(
        None, ge=1, description="read at most this many rows; how many to make for reasoning_gym"
    )
    answer_type: Literal["number", "fraction", "percentage", "math", "choice", "boolean", "text"] = "number"
    on_bad_row: Literal["fail", "skip"] = "fail"


class HeldOut(Section):
    """The evaluation set: by id hash (or the source's own test split), frozen in the run, never generated from, never published."""

    count: int | None = Field(None, ge=1, description="this many items (those with the smallest hash)")
    share: float = Field(0.2, gt=0, lt=1, description="used when count is not given")
    source: Source | None = Field(
        None,
        description="questions from elsewhere, of which count (default: all) are asked; then every task is learnt from",
    )
    ngram: int = Field(
        13,
        ge=2,
        description="a published example that shares this many consecutive words with a held-out question is dropped",
    )


class Filters(Section):
    """Row filters before verification, and what is done over all rows after it."""

    drop_truncated: bool = Field(True, description="drop answers that ended by length, not by themselves")
    min_tokens: int = Field(1, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    repetition_ngram: int = Field(8, ge=1, description="words")
    repetition_limit: int = Field(
        4, ge=2, description="drop when one n-gram of that length occurs this often"
    )
    drop_duplicates: bool = Field(
        True, description="exact duplicates of an answer to the same question, over all rounds"
    )


class Accumulate(Section):
    """Which rounds' data the next model trains on."""

    policy: str = Field(
        "all",
        pattern=r"^(all|replace|window:[1-9]\d*|subsample:[1-9]\d*)$",
        description="all, replace, window:k, subsample:n",
    )
    keep_real: bool = Field(True, description="the real demonstrations are always in the mixture")
    keep_rounds: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list,
        description="rounds whose data is always in the mixture as well, such as [1] for the meta-skill corpus of SELF",
    )


class Lora(Section):
    """Low-rank adaptation; merged into the weights before the next round."""

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class Preferences(Section):
    """Pairs of a right and a wrong answer to one question, made of every round's answers when train.kind asks for them."""

    pairs_per_question: int | None = Field(
        2,
        ge=1,
        description="at most this many pairs of one question and round (seeded choice, answers not used yet first); null: all there are",
    )
    length_matched: float | None = Field(
        None,
        ge=1,
        description="longest permitted ratio of the two answers' token counts, such as 1.5, so that length is not what is learnt; off (null): any",
    )
    distinct: bool = Field(
        True, description="of equal answers to a question one is used, and no pair that an earlier round has"
    )

    @field_validator("length_matched", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        if value is True:
            raise ValueError("give the longest permitted ratio of the two token counts, such as 1.5")
        return None if value is False or value == "off" else value  # YAML reads a bare `off` as false


Loss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]


class Dpo(Section):
    """Preference optimisation. What is not here (lora, precision, max_length, schedule, workers) is as in `train`."""

    beta: float = Field(
        0.1, gt=0, description="how strongly the model is held to the reference; higher is closer"
    )
    loss_type: list[Loss] = Field(
        default_factory=lambda: ["sigmoid"],
        min_length=1,
        description="TRL's losses; several are added up, such as [sigmoid, sft]",
    )
    loss_weights: list[float] | None = Field(None, description="one for each loss; default: 1")
    reference: Literal["start", "base"] = Field(
        "start", description="start: the model that this training starts from; base: the untrained model"
    )
    learning_rate: float = Field(
        1e-6, gt=0, description="TRL's default, for all weights; LoRA takes about ten times as much"
    )
    epochs: float = Field(1, gt=0)
    max_steps: int | None = Field(None, ge=1, description="overrides epochs")
    batch_size: int | None = Field(
        None, ge=1, description="pairs per optimiser step, over all workers; default: train.batch_size"
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="pairs (two answers each) per forward pass of one worker; default: train.micro_batch_size",
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="any further field of TRL's DPOConfig")

    @field_validator("loss_type", mode="before")
    @classmethod
    def _one_loss(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _a_weight_for_each_loss(self) -> "Dpo":
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(
                f"loss_weights has {len(self.loss_weights)} numbers for {len(self.loss_type)} losses (loss_type: {self.loss_type})"
            )
        return self


class Cpt(Section):
    """Continued pretraining: texts in one stream, cut into blocks of train.max_length tokens, with blocks of general text among them."""

    replay: Source | None = Field(
        None,
        description="general text, so that less is forgotten; a text is what columns.question names. A part of it is held out for perplexity",
    )
    replay_rate: float = Field(0.1, ge=0, lt=1, description="share of the blocks that are general text")
    replay_mode: Literal["instead", "in_addition"] = Field(
        "in_addition",
        description="instead: each place holds general text with this chance, as published; in_addition: no block is left out for it",
    )
    replay_held_out: float = Field(
        0.2, gt=0, lt=1, description="share of the general texts that are never trained on"
    )


class Train(Section):
    """Training with TRL inside Ray Train: supervised, on preferences, one after the other, or continued pretraining."""

    kind: Literal["sft", "dpo", "sft_then_dpo", "cpt"] = Field(
        "sft",
        description="sft: on right answers; dpo: on pairs of right and wrong ones; sft_then_dpo: both. Round 0 is always sft. cpt: on texts",
    )
    start: Literal["base", "continue"] = Field(
        "base", description="each round starts from the base model, or from the last round's"
    )
    lora: Lora | None = None
    adapters: bool = Field(
        False,
        description="an adapter (train.lora) for each role of the method, served together and never merged; default: one model learns all roles",
    )
    learning_rate: float = Field(2e-4, gt=0)
    lr_scheduler_type: str = "cosine"
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0)
    epochs: float = Field(3, gt=0)
    max_steps: int | None = Field(None, ge=1, description="overrides epochs")
    batch_size: int = Field(16, ge=1, description="examples per optimiser step, over all workers")
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="examples per forward pass of one worker; default: its share of the batch, on CPUs as many as have 2,048 tokens at max_length",
    )
    max_length: int = Field(
        1024, ge=8, description="tokens; longer examples are left out and counted, never cut"
    )
    packing: bool = False
    precision: Literal["auto", "fp32", "bf16_autocast", "bf16"] = Field(
        "auto", description="auto: fp32 weights with bf16 autocast where the machine has bf16"
    )
    workers: int = Field(1, ge=1, description="Ray Train workers")
    cpus_per_worker: int | None = Field(
        None, ge=1, description="default: all cores on a machine without GPU, shared out"
    )
    gpus_per_worker: float | None = Field(None, ge=0, description="default: 1 where there are GPUs")
    save_steps: int = Field(50, ge=1, description="a killed training resumes from the last checkpoint")
    extra: dict[str, Any] = Field(default_factory=dict, description="any further field of TRL's SFTConfig")
    dpo: Dpo = Field(default_factory=Dpo)
    cpt: Cpt = Field(default_factory=Cpt)


class Evaluate(Section):
    """Evaluation on the held-out set, and on further sets that a model may be asked about but never learns from."""

    sets: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], Source] = Field(
        default_factory=dict,
        description="further sets by name, such as other reasoning_gym datasets; `limit` says how many questions",
    )
    how: Literal["generate", "loglikelihood"] = Field(
        "generate",
        description="generate: an answer is written and read; loglikelihood: the option with the highest log-probability per token, for models too small to answer in form",
    )
    engine: Engine | None = Field(
        None, description="default: the recipe's engine; a local vllm engine when that is an endpoint"
    )
    base_model: bool = Field(True, description="evaluate the untrained model as well")
    max_tokens: int | None = Field(None, ge=1, description="default: as in sampling")
    samples: int = Field(
        0, ge=0, description="sampled answers per question for pass@k and maj@k, beside the greedy one"
    )
    k: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1, 4])
    temperature: float = Field(0.8, gt=0)
    bootstrap: int = Field(2000, ge=100, description="resamples for the 95% intervals")

    @model_validator(mode="after")
    def _nothing_is_sampled(self) -> "Evaluate":
        if self.how == "loglikelihood" and self.samples:
            raise ValueError("samples: nothing is sampled with how: loglikelihood; leave samples at 0")
        return self


class Runner(Section):
    """How rows are worked on. Nothing here changes what comes out."""

    workers: int = Field(1, ge=1, description="stage workers (Ray actors)")
    in_flight: int = Field(256, ge=1, description="rows in flight per worker")
    worker_cpus: float = Field(
        0,
        ge=0,
        description="CPUs Ray reserves for a stage worker; 0 lets it run beside an engine that has them all",
    )
    part_rows: int = Field(2000, ge=1, description="rows worked on per part file")
    part_seconds: float = Field(30, gt=0, description="a part is written at least this often")
    sync_seconds: float = Field(1.0, gt=0, description="finished requests are durable within this time")
    max_attempts: int = Field(
        3, ge=1, description="a row that kills its worker is tried this often, then recorded as failed"
    )
    max_failed_share: float = Field(
        0.5, ge=0, le=1, description="more failed rows than this stop the run with the first error"
    )
    on_unanswered: Literal["stop", "fail"] = Field(
        "stop",
        description="rows whose requests were still not answered (time-outs, 429, 5xx, no connection) at a second try: stop, so that the same command tries them again; or record them as failed",
    )
    no_progress_seconds: float = Field(
        900, gt=0, description="nothing finished for so long: say what hangs, and fail"
    )
    address: str | None = Field(None, description="Ray address; default: RAY_ADDRESS, else a local Ray")
    engine_pool: str | None = Field(
        None, description="name given to jobs.serve: attach to these engines instead of starting some"
    )


class Recipe(Section):
    """One run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, lt=2**32, description="everything that is drawn follows from it")
    rounds: int = Field(2, ge=0)
    model: Model = Field(default_factory=Model)
    engine: Engine = Field(default_factory=VllmEngine)
    tasks: Source
    demonstrations: Source | None = None
    held_out: HeldOut = Field(default_factory=HeldOut)
    questions_per_round: int | None = Field(
        None, ge=1, description="a seeded draw for each round; default: all"
    )
    new_questions: bool = Field(False, description="a round draws none that an earlier round has drawn")
    sampling: Sampling = Field(default_factory=Sampling)
    method: dict[str, Any] = Field(
        default_factory=lambda: {"name": "direct"}, description="name and the method's own options"
    )
    verifier: str = Field(
        "ground_truth", description="ground_truth, task_scorer, majority_vote, or 'module:function'"
    )
    filters: Filters = Field(default_factory=Filters)
    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="templates in place of those that ship: name (direct/solve) -> file or text; or a folder of them",
    )
    accumulate: Accumulate = Field(default_factory=Accumulate)
    preferences: Preferences = Field(default_factory=Preferences)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    runner: Runner = Field(default_factory=Runner)

    @model_validator(mode="after")
    def _method_has_a_name(self) -> "Recipe":
        if self.new_questions and self.questions_per_round is None:
            raise ValueError(
                "new_questions: true needs questions_per_round; without it every round asks all questions"
            )
        if not isinstance(self.method.get("name"), str):
            raise ValueError("method.name is missing: expected a method's name, such as direct")
        return self
