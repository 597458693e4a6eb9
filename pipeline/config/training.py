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
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


class Lora(Section):
    """Low-rank adapters, merged into the weights before the next round (except by `train.adapters`)."""

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class Dpo(Section):
    """Preference optimization. What is not here (LoRA, precision, max_length, workers) is as in `train`."""

    beta: PositiveFloat = 0.1
    """Strength of the pull toward the reference model; higher stays closer."""
    loss_type: list[Loss] = Field(["sigmoid"], min_length=1)
    """TRL's losses; several are summed, such as [sigmoid, sft]."""
    loss_weights: list[float] | None = None
    """One per loss. Default: 1 each."""
    reference: Literal["start", "base"] = "start"
    """start: the model this training starts from. base: the untrained model."""
    learning_rate: PositiveFloat = 1e-6
    """TRL's default, for full fine-tuning; LoRA takes about ten times as much."""
    epochs: PositiveFloat = 1
    max_steps: PositiveInt | None = None
    """Optimizer steps; overrides `epochs`."""
    batch_size: PositiveInt | None = None
    """Pairs per optimizer step, over all workers. Default: `train.batch_size`."""
    micro_batch_size: PositiveInt | None = None
    """Pairs (of two answers) per forward pass of one worker. Default: `train.micro_batch_size`."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Any other field of TRL's DPOConfig."""

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

    kind: Literal["sft", "dpo", "sft_then_dpo", "cpt"] = "sft"
    """sft trains on right answers, dpo on pairs of a right and a wrong one, sft_then_dpo on both in turn, cpt
    on texts. Round 0 is always sft."""
    start: Literal["base", "continue"] = "base"
    """Start each round from the base model, or from the last round's."""
    lora: Lora | None = None
    """null trains all weights."""
    adapters: bool = False
    """Train one LoRA adapter per role of the method, served together, never merged. Default: one model."""
    learning_rate: PositiveFloat = 2e-4
    lr_scheduler_type: str = "cosine"
    """Any scheduler name of transformers."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps during which the learning rate rises."""
    weight_decay: NonNegativeFloat = 0.0
    epochs: PositiveFloat = 3
    max_steps: PositiveInt | None = None
    """Optimizer steps; overrides `epochs`."""
    batch_size: PositiveInt = 16
    """Examples per optimizer step, over all workers."""
    micro_batch_size: PositiveInt | None = None
    """Examples per forward pass of one worker. Default: its share of the batch; on CPUs, as many as have
    2,048 tokens at `max_length`."""
    max_length: int = Field(1024, ge=8)
    """Tokens; longer examples are left out and counted, never truncated."""
    packing: bool = False
    """Pack several examples into one sequence of `max_length` tokens."""
    precision: Literal["auto", "fp32", "bf16_autocast", "bf16"] = "auto"
    """auto: fp32 weights, with bf16 autocast where the hardware computes bf16."""
    workers: PositiveInt = 1
    """Ray Train workers; `batch_size` must be a multiple."""
    cpus_per_worker: PositiveInt | None = None
    """Default: an even share of all cores on a machine without a GPU."""
    gpus_per_worker: float | None = Field(None, ge=0)
    """Default: 1 if there are GPUs."""
    save_steps: PositiveInt = 50
    """Optimizer steps between checkpoints; an interrupted training resumes from the last one."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Any other field of TRL's SFTConfig."""
    dpo: Dpo = Field(default_factory=Dpo)
    cpt: Cpt = Field(default_factory=Cpt)

    def mistakes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield (key, problem) for values with which a training would fail to start.

        A recipe with one is refused. Runs that already have one stay readable, so this is not a validator.
        """
        if self.lr_scheduler_type not in SCHEDULERS:
            near = suggest(self.lr_scheduler_type, SCHEDULERS)
            yield ("lr_scheduler_type",), f"unknown scheduler.{near} Known: {', '.join(SCHEDULERS)}"
        if self.kind != "dpo":
            yield from self._uneven((), self.batch_size, self.micro_batch_size)
        if self.kind in ("dpo", "sft_then_dpo"):
            batch, micro = self.dpo.batch_size, self.dpo.micro_batch_size
            yield from self._uneven(("dpo",), batch or self.batch_size, micro or self.micro_batch_size)

    def _uneven(
        self, section: tuple[str, ...], batch: int, micro: int | None
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        share, rest = divmod(batch, self.workers)
        if rest:
            yield (*section, "batch_size"), f"{batch} is not divisible by train.workers = {self.workers}"
        elif micro and share % micro:
            yield (
                (*section, "micro_batch_size"),
                f"{micro} does not divide a worker's share of the batch, {share}",
            )
