"""The section `train`: supervised, on preferences, or continued pretraining."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from pipeline.config.data import Source
from pipeline.config.section import Section
from pipeline.errors import suggest

# transformers' SchedulerType, spelled out because importing transformers takes seconds.
SCHEDULERS = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup",
    "inverse_sqrt", "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
    "warmup_stable_decay", "greedy",
)  # fmt: skip
# These change the rate by what an evaluation finds, and no evaluation runs during a training.
NEED_EVALUATION = ("reduce_lr_on_plateau", "greedy")
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"]

# Learning rates where a recipe names none, by the kind of training: for all weights, and with LoRA. Chosen to
# do no harm to models of 0.5 to 8 billion parameters. sft: between Tulu 3's 5e-6 (arXiv 2411.15124) and TRL's
# 2e-5; ten times as much for LoRA, as TRL's documentation advises. dpo: Zephyr (arXiv 2310.16944) and the
# alignment handbook's zephyr-7b-dpo-full and -qlora. kto: TRL's default, and ten times as much for LoRA. cpt:
# EntiGraph (arXiv 2409.07431).
RATES = {"sft": (1e-5, 1e-4), "dpo": (5e-7, 5e-6), "kto": (1e-6, 1e-5), "cpt": (5e-6, 5e-5)}


class Lora(Section):
    """Low-rank adapters, merged into the weights before the next round (except by `train.adapters`)."""

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class Preference(Section):
    """What DPO and KTO share. What is not here (LoRA, precision, max_length, workers) is as in `train`."""

    beta: PositiveFloat = 0.1
    """Strength of the pull toward the reference model; higher stays closer."""
    reference: Literal["start", "base"] = "start"
    """start: the model this training starts from. base: the untrained model."""
    learning_rate: PositiveFloat | None = None
    """null: for dpo 5e-7 for all weights and 5e-6 with LoRA, for kto 1e-6 and 1e-5. See
    `train.learning_rate`."""
    epochs: PositiveFloat = 1
    max_steps: PositiveInt | None = None
    """Optimizer steps; overrides `epochs`."""
    batch_size: PositiveInt | None = None
    """Pairs (of kto: answers) per optimizer step, over all workers. Default: `train.batch_size`."""
    micro_batch_size: PositiveInt | None = None
    """Pairs (of two answers; of kto: answers, two at least) per forward pass of one worker. Default:
    `train.micro_batch_size`."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Any other field of TRL's DPOConfig or KTOConfig."""


class Dpo(Preference):
    """Preference optimization on pairs of a better and a worse answer."""

    loss_type: list[Loss] = Field(["sigmoid", "sft"], min_length=1)
    """TRL's losses, summed. sft is the negative log-likelihood of the chosen answer per token, without which
    preference training on reasoning gains less: 61.8% on GSM8K instead of 73.1% (arXiv 2404.19733)."""
    loss_weights: list[float] | None = None
    """One per loss. Default: 1 each, as in that paper."""

    @field_validator("loss_type", mode="before")
    @classmethod
    def _one_loss(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_weight_per_loss(self) -> "Dpo":
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(
                f"loss_weights has {len(self.loss_weights)} numbers for {len(self.loss_type)} losses "
                f"(loss_type: {self.loss_type})"
            )
        return self


class Kto(Preference):
    """Learning from right and wrong answers that are no pairs (arXiv 2402.01306)."""

    desirable_weight: PositiveFloat | None = None
    """Weight of the right answers' loss. Default: 1, or if they are fewer, what makes both sides count alike
    (the paper's equation 8: weight times number of the right ones, 1 to 4/3 times that of the wrong ones)."""
    undesirable_weight: PositiveFloat | None = None
    """Weight of the wrong answers' loss, likewise."""

    def weights(self, right: int, wrong: int) -> tuple[float, float]:
        """Return the weights of right and wrong answers for their numbers: the rarer ones weigh more."""
        desirable, undesirable = self.desirable_weight, self.undesirable_weight
        odds = max(1, wrong) / max(1, right)
        if desirable is None:
            desirable = max(1.0, odds) if undesirable is None else undesirable * odds
        return desirable, desirable / odds if undesirable is None else undesirable


class Cpt(Section):
    """Continued pretraining on one stream of texts, cut into blocks of `train.max_length` tokens."""

    replay: Source | None = None
    """General text against forgetting; its column is `columns.question`. A part measures perplexity."""
    replay_rate: float = Field(0.1, ge=0, lt=1)
    """Share of the blocks that are general text."""
    replay_mode: Literal["instead", "in_addition"] = "in_addition"
    """instead replaces a block of texts with this probability, as published; in_addition replaces none."""
    replay_held_out: float = Field(0.2, gt=0, lt=1)
    """Share of the general texts that is never trained on."""


class Train(Section):
    """Training with TRL inside Ray Train."""

    kind: Literal["sft", "dpo", "sft_then_dpo", "kto", "sft_then_kto", "cpt"] = "sft"
    """sft trains on right answers, dpo on pairs of a better and a worse one, kto on right and wrong ones that
    are no pairs, sft_then_dpo and sft_then_kto on both in turn, cpt on texts. Round 0 is always sft."""
    start: Literal["base", "continue"] = "base"
    """Start each round from the base model, or from the last round's."""
    lora: Lora | None = None
    """null trains all weights."""
    adapters: bool = False
    """Train one LoRA adapter per role of the method, served together, never merged. Default: one model."""
    learning_rate: PositiveFloat | None = None
    """null: 1e-5 for all weights and 1e-4 with LoRA; for kind cpt 5e-6 and 5e-5. These suit 0.5 to 8 billion
    parameters; smaller models may need more. The shipped recipes pin a rate for the packaged model of 135
    million, which `--set model.base=` keeps: for a larger one add `--set train.learning_rate=null`."""
    lr_scheduler_type: str = "cosine"
    """A scheduler name of transformers; its own settings go into `extra.lr_scheduler_kwargs`."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps during which the learning rate rises."""
    weight_decay: NonNegativeFloat = 0.0
    epochs: PositiveFloat = 3
    max_steps: PositiveInt | None = None
    """Optimizer steps; overrides `epochs`."""
    max_tokens: PositiveInt | None = None
    """Tokens that each training of a round sees, without padding: as many optimizer steps as come nearest to
    them, by the mean length of its examples. Overrides `max_steps` and `epochs`, those of `dpo` too."""
    batch_size: PositiveInt = 16
    """Examples per optimizer step, over all workers."""
    micro_batch_size: PositiveInt | None = None
    """Examples per forward pass of one worker. Default: as many of its share of the batch as have 16,384
    tokens at `max_length`, on CPUs 2,048."""
    micro_batch_tokens: PositiveInt | None = None
    """Tokens, with padding, per forward pass of one worker, instead of `micro_batch_size`: many short
    examples, or few long ones. The loss is the same. Where rows are not padded, and for dpo and kto, as many
    rows as have these tokens at `max_length`."""
    max_length: int = Field(1024, ge=8)
    """Tokens; longer examples are left out and counted, never truncated."""
    packing: bool = False
    """Pack several examples into one sequence of `max_length` tokens; none attends to another. `batch_size`
    then counts such sequences."""
    attention: Attention | None = None
    """How attention is computed. null: as transformers does by default, which is sdpa wherever it can be. The
    last three need a GPU, and the flash_ ones the packages flash-attn or flash-attn-3."""
    liger: bool = False
    """Compute norms, rotations and inner layers with the Triton kernels of the package liger-kernel. Needs a
    GPU, and a type of model that it knows."""
    precision: Literal["auto", "fp32", "bf16_autocast", "bf16"] = "auto"
    """auto: fp32 weights, with bf16 autocast where the hardware computes bf16. With LoRA the frozen weights
    are then bf16 as well, and only the adapters fp32."""
    workers: Literal["auto"] | int = "auto"
    """Ray Train workers; `batch_size` must be a multiple. auto: one for each GPU of the cluster, or 1."""
    shard: Literal["auto", "none", "full"] = "auto"
    """full divides weights, gradients and optimizer among the workers (FSDP2); none gives each a copy. auto
    divides them among several GPUs if a copy does not fit one, by the estimate of `--plan`."""
    cpus_per_worker: PositiveInt | None = None
    """Default: an even share of all cores on a machine without a GPU."""
    gpus_per_worker: float | None = Field(None, ge=0)
    """Default: 1 if there are GPUs."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Compute activations again on the way back instead of keeping them: less memory, a quarter more time.
    auto does so on a GPU on which the training would not fit otherwise, by the estimate of `--plan`, and
    never on a CPU."""
    save_steps: PositiveInt = 50
    """Optimizer steps between checkpoints; an interrupted training resumes from the last one."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Any other field of TRL's SFTConfig."""
    dpo: Dpo = Field(default_factory=Dpo)
    kto: Kto = Field(default_factory=Kto)
    cpt: Cpt = Field(default_factory=Cpt)

    @field_validator("workers", mode="plain")
    @classmethod
    def _auto_or_a_number(cls, value: Any) -> Any:
        if value != "auto" and (type(value) is not int or value < 1):
            raise ValueError("expected auto, or the number of workers")
        return value

    @property
    def processes(self) -> int:
        """`workers`, or 1 where that is auto and not settled yet (pipeline.training.workers)."""
        return 1 if self.workers == "auto" else self.workers

    @property
    def shards(self) -> int:
        """Among how many workers the weights are divided."""
        return self.processes if self.shard == "full" else 1

    @property
    def preference(self) -> Literal["dpo", "kto", ""]:
        """How `kind` trains on wrong answers, too; "" if it does not."""
        last: Any = self.kind.rpartition("_then_")[2]
        return last if last in ("dpo", "kto") else ""

    def section(self, kind: str) -> tuple["Train | Preference", str]:
        """Return the settings of a training of `kind`, and their key in a recipe."""
        if kind == "dpo":
            return self.dpo, "train.dpo"
        return (self.kto, "train.kto") if kind == "kto" else (self, "train")

    def rate(self, kind: str) -> tuple[float, str]:
        """Return the learning rate of a training of `kind` (sft, dpo, kto, cpt), and where it comes from."""
        own, key = self.section(kind)
        if own.learning_rate is not None:
            return own.learning_rate, f"{key}.learning_rate"
        return RATES[kind][bool(self.lora)], f"the default {'with LoRA' if self.lora else 'for all weights'}"

    def mistakes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield (key, problem) for values with which a training would fail to start.

        A recipe with one is refused. Runs that already have one stay readable, so this is not a validator.
        """
        if self.lr_scheduler_type not in SCHEDULERS:
            near = suggest(self.lr_scheduler_type, SCHEDULERS)
            known = ", ".join(name for name in SCHEDULERS if name not in NEED_EVALUATION)
            yield ("lr_scheduler_type",), f"unknown scheduler.{near} Known: {known}"
        if self.lr_scheduler_type in NEED_EVALUATION:
            why = (
                "follows evaluations during the training, and there are none; choose another, such as cosine"
            )
            yield ("lr_scheduler_type",), f"{self.lr_scheduler_type} {why}"
        if self.shard == "full" and self.gpus_per_worker == 0:
            why = "divides the model among GPUs, or among CPU workers where there are none"
            yield ("shard",), f"full {why}; remove train.gpus_per_worker: 0"
        if self.micro_batch_size and self.micro_batch_tokens:
            why = "replaces train.micro_batch_size; remove one of them"
            yield ("micro_batch_tokens",), f"{self.micro_batch_tokens} {why}"
        if self.kind not in ("dpo", "kto"):
            yield from self._uneven((), self.batch_size, self.micro_batch_size)
        if kind := self.preference:
            own, _ = self.section(kind)
            batch, micro = own.batch_size, own.micro_batch_size
            yield from self._uneven((kind,), batch or self.batch_size, micro or self.micro_batch_size)
            if kind == "kto" and (batch or self.batch_size) < 2 * self.processes:
                why = "leaves a worker one answer, and kto compares each with another"
                least = f"expected {2 * self.processes} or more"
                yield (kind, "batch_size"), f"{batch or self.batch_size} {why}; {least}"

    def _uneven(
        self, section: tuple[str, ...], batch: int, micro: int | None
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        share, rest = divmod(batch, self.processes)
        if rest:
            yield (*section, "batch_size"), f"{batch} is not divisible by train.workers = {self.processes}"
        elif micro and share % micro:
            yield (
                (*section, "micro_batch_size"),
                f"{micro} does not divide a worker's share of the batch, {share}",
            )
