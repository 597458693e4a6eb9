"""Sections about data: where tasks come from, what is held out, which rows are kept, and what they train."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from pipeline.config.section import Section


class Columns(Section):
    """Which column holds what. Without an id column, ids are hashes of the content."""

    question: str = "question"
    answer: str | None = "answer"
    """null if the tasks have no ground truth."""
    id: str | None = None
    solution: str | None = None
    """Worked solution of a demonstration. An answer that it does not contain is marked after it."""
    options: str | None = None
    """List of the option texts of a multiple-choice question."""
    document: str | None = None
    """The document a question is about. Confidence intervals then resample documents instead of questions."""


class Source(Section):
    """Where tasks or demonstrations come from."""

    source: str
    """reasoning_gym, environment, jsonl, csv, parquet, hf, documents, or your own as `module:function`."""
    path: str | None = None
    """File, glob or folder; for hf a Hub name."""
    dataset: str | None = None
    """Name of the reasoning_gym dataset, or of the environment."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source: reasoning_gym's config, hf's split and name, an environment's train and
    test."""
    columns: Columns = Field(default_factory=Columns)
    limit: PositiveInt | None = None
    """Read at most this many rows; for reasoning_gym, how many to generate."""
    answer_type: Literal["number", "fraction", "percentage", "math", "choice", "boolean", "text"] = "number"
    """How answers are read and compared."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """skip records bad rows under tasks/rejected, counts them and reads on."""


class HeldOut(Section):
    """The evaluation set, frozen in the run: never generated from, never published.

    It is split off by id hash, or is the source's own test split.
    """

    count: PositiveInt | None = None
    """Number of items: those with the smallest hashes."""
    share: float = Field(0.2, gt=0, lt=1)
    """Share of the items, if `count` is not set."""
    source: Source | None = None
    """Take the questions from this source instead, `count` of them or all; every task is then trained on."""
    ngram: int = Field(13, ge=2)
    """Published examples that share this many consecutive words with a held-out question are dropped."""


class Filters(Section):
    """Row filters before verification, and deduplication after it."""

    drop_truncated: bool = True
    """Drop answers that were cut off: by the token limit, a content filter or an error of the server."""
    min_tokens: NonNegativeInt = 1
    max_tokens: PositiveInt | None = None
    repetition_ngram: PositiveInt = 8
    """Length in words of the n-grams that `repetition_limit` counts."""
    repetition_limit: int = Field(4, ge=2)
    """Drop answers in which one n-gram occurs this often."""
    own: list[str | dict[str, Any]] = Field(default_factory=list)
    """Filters of your own, called with a row: `module:Name`, or {use: module:Name, option: value}."""
    drop_duplicates: bool = True
    """Drop exact duplicates among the answers to a question, over all rounds that are trained on together
    (`accumulate`)."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what outcomes depend on, as JSON."""
        return self.model_dump(mode="json", exclude=None if self.own else {"own"})


class Accumulate(Section):
    """Which rounds' data the next model trains on."""

    policy: str = Field("all", pattern=r"^(all|replace|window:[1-9]\d*|subsample:[1-9]\d*)$")
    """all; replace (the last round); window:k (the last k rounds); subsample:n (n examples of all rounds)."""
    keep_real: bool = True
    """Always include the real demonstrations."""
    keep_rounds: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Always include these rounds as well."""

    def always_with(self, round: int) -> list[int]:
        """Return the rounds before `round` that are in every mixture that `round` is in.

        A row that repeats one of theirs adds nothing. With policy replace or window:k other earlier rounds
        drop out of the mixture while `round` is still in it.
        """
        every = self.policy.partition(":")[0] in ("all", "subsample")
        return [r for r in range(round) if every or r in self.keep_rounds or (r == 0 and self.keep_real)]


class Preferences(Section):
    """Pairs of a right and a wrong answer to one question, published if `train.kind` asks for them."""

    pairs_per_question: PositiveInt | None = 2
    """Maximum number of pairs per question and round: a seeded choice, unused answers first. null: all."""
    length_matched: float | None = Field(None, ge=1)
    """Maximum ratio of the two token counts, such as 1.5, so that length is not learned; off or null: any."""
    distinct: bool = True
    """Use one of several equal answers to a question, and no pair that an earlier round has."""

    @field_validator("length_matched", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        if value is True:
            raise ValueError("expected the maximum ratio of the two token counts, such as 1.5")
        return None if value is False or value == "off" else value  # YAML reads a bare `off` as false
