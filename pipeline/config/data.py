"""Sections about data: where tasks come from, what is held out, which rows are kept, and what they train."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from pipeline.config import presets
from pipeline.config.section import Section
from pipeline.errors import suggest


class Columns(Section):
    """Which column holds what. A dot leads into a nested column: `reward_model.ground_truth`, `answers.0`.

    Without an id column, ids are hashes of the content.
    """

    question: str = "question"
    """A text, or a list of messages: its last user message is asked, with those before it."""
    answer: str | None = "answer"
    """null if the tasks have no ground truth. Of a list each is right."""
    id: str | None = None
    solution: str | None = None
    """Worked solution of a demonstration. An answer that it does not contain is marked after it. Of a list of
    messages it is the last of the assistant."""
    options: str | list[str] | None = None
    """The options of a multiple-choice question: a list, an object of texts by label or of lists `text` and
    `label`, one text ("A) ... B) ..."), or a list of columns, one for each option."""
    tests: str | None = None
    """Tests of the program that a question asks for (verifier: code_tests): test code, a list of asserts, or
    {inputs, outputs, fn_name}."""
    entry_point: str | None = None
    """Name of the function that the tests call, where they do not say it themselves."""
    document: str | None = None
    """The document a question is about. Confidence intervals then resample documents instead of questions."""


class Source(Section):
    """Where tasks or demonstrations come from."""

    source: str
    """reasoning_gym, environment, jsonl, csv, parquet, hf, documents, or your own as `module:function`."""
    path: str | None = None
    """File, glob or folder; for hf a Hub name."""
    preset: str | None = None
    """The layout of a public data set, on the Hub or a copy of it: gsm8k, math, mmlu, mmlu_pro, arc, verl,
    deepscaler, olympiadbench, humaneval, mbpp, apps, messages, sharegpt. It sets columns, answer_type,
    answer_mark, answer_is, on_bad_row, and the options that the Hub needs, where the recipe does not."""
    dataset: str | None = None
    """Name of the reasoning_gym dataset, or of the environment."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source: reasoning_gym's config, hf's split and name, an environment's train and
    test."""
    columns: Columns = Field(default_factory=Columns)
    limit: PositiveInt | None = None
    """Read at most this many rows; for reasoning_gym, how many to generate."""
    answer_type: Literal["number", "fraction", "percentage", "math", "choice", "boolean", "text", "code"] = (
        "number"
    )
    """How answers are read and compared. code: a program, judged by its tests."""
    answer_mark: str | None = Field(None, min_length=1)
    """The answer is what follows the last occurrence of this text in its column, up to the end of the line,
    such as `####`; boxed: what the last box of LaTeX holds."""
    answer_is: Literal["index0", "index1", "letter", "text"] | None = None
    """How the answer of a choice names its option. A number is an index from 0 or from 1, or the option's
    text, and is refused until this says which."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """skip records bad rows under tasks/rejected, counts them and reads on. Rows that repeat an earlier one
    are left out and counted, whatever this says."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, data: Any) -> Any:
        return presets.filled(data)

    @field_validator("preset")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in presets.PRESETS:
            known = ", ".join(presets.PRESETS)
            raise ValueError(f"unknown preset {name!r}.{suggest(name, presets.PRESETS)} Known: {known}")
        return name

    @model_validator(mode="after")
    def _of_a_choice(self) -> "Source":
        if self.answer_is and self.answer_type != "choice":
            raise ValueError(
                f"answer_is: {self.answer_is} is about choices, but answer_type is {self.answer_type}"
            )
        return self


class HeldOut(Section):
    """The evaluation set, frozen in the run: never generated from, never published.

    It is split off by id hash, or is the source's own test split.
    """

    count: PositiveInt | None = None
    """Number of items: those with the smallest hashes."""
    share: float = Field(0.2, gt=0, lt=1)
    """Share of the items, if `count` is not set."""
    source: Source | None = None
    """Take the questions from this source instead, `count` of them or all. Every task that reads otherwise is
    then trained on. With `tasks.preset` it is the test split, where there is one and `share` is not set."""
    ngram: int = Field(13, ge=2)
    """Published examples that share this many consecutive words with a held-out question are dropped."""


class NearDuplicates(Section):
    """Rows whose question and answer are nearly those of another row."""

    threshold: float = Field(0.8, ge=0.5, le=1)
    """Similarity of two texts from which on one is dropped: the share of shingles that they have in common
    among all that either has (Jaccard)."""
    shingle: PositiveInt = 3
    """Length of a shingle in words; in scripts without spaces, in characters."""


class Filters(Section):
    """Row filters before verification, and deduplication after it."""

    drop_truncated: bool = True
    """Drop answers that were cut off: by the token limit, a content filter or an error of the server."""
    min_tokens: NonNegativeInt = 1
    max_tokens: PositiveInt | None = None
    repetition_share: float | None = Field(0.4, gt=0, lt=1)
    """Drop answers of which more than this share repeats: loops, or sentences that come three times and more.
    null: any. Off where `repetition_limit` is set and this is not."""
    repetition_limit: int | None = Field(None, ge=2)
    """Drop answers in which one n-gram occurs this often, wherever. It also drops right solutions whose steps
    are worded alike. null: any."""
    repetition_ngram: PositiveInt = 8
    """Length in words of the shortest passage whose repetition counts."""
    own: list[str | dict[str, Any]] = Field(default_factory=list)
    """Filters of your own, called with a row: `module:Name`, or {use: module:Name, option: value}."""
    drop_duplicates: bool = True
    """Drop exact duplicates among the answers to a question, over all rounds that are trained on together
    (`accumulate`)."""
    near_duplicates: NearDuplicates | None = None
    """Drop near-duplicates as well, over the same rounds: {threshold: 0.8}."""

    @field_validator("near_duplicates", mode="before")
    @classmethod
    def _says_threshold(cls, value: Any) -> Any:
        if isinstance(value, bool | int | float | str):
            raise ValueError("expected a section such as {threshold: 0.8}, or null for off")
        return value

    @model_validator(mode="before")
    @classmethod
    def _counts_alone(cls, data: Any) -> Any:
        """A recipe that sets the limit alone, as every run.yaml without the share does, has no share."""
        if isinstance(data, dict) and data.get("repetition_limit") is not None:
            return {"repetition_share": None, **data}
        return data

    def fingerprint(self) -> dict[str, Any]:
        """Return what outcomes depend on, as JSON; near_duplicates are publishing's own."""
        absent = {"own": self.own, "repetition_share": self.repetition_share}
        left_out = {"near_duplicates", *(key for key, value in absent.items() if not value)}
        return self.model_dump(mode="json", exclude=left_out)


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
    """Pairs of two answers to one question, published if `train.kind` asks for them."""

    pairs: Literal["right_wrong", "best_worst"] = "right_wrong"
    """right_wrong: a right answer against a wrong one. best_worst: a higher score of the verifier against a
    lower one, the widest gap first; an answer without a score has 1 if it is right, else 0."""
    min_gap: float = Field(0.0, ge=0)
    """Minimum difference of the two scores. best_worst never pairs equal scores."""
    pairs_per_question: PositiveInt | None = 2
    """Maximum number of pairs per question and round, unused answers first; right_wrong makes a seeded
    choice. null: all."""
    length_matched: float | None = Field(None, ge=1)
    """Maximum ratio of the two token counts, such as 1.5, so that length is not learned; off or null: any."""
    max_length_difference: NonNegativeInt | None = None
    """Maximum difference of the two token counts. null: any."""
    distinct: bool = True
    """Use one of several equal answers to a question, and no pair that an earlier round has."""

    @field_validator("length_matched", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        if value is True:
            raise ValueError("expected the maximum ratio of the two token counts, such as 1.5")
        return None if value is False or value == "off" else value  # YAML reads a bare `off` as false

    def fingerprint(self) -> dict[str, Any]:
        """Return what outcomes depend on, as JSON; settings that older versions lack only if they are set."""
        late, default = ("pairs", "min_gap", "max_length_difference"), Preferences()
        return self.model_dump(
            mode="json", exclude={key for key in late if getattr(self, key) == getattr(default, key)}
        )
