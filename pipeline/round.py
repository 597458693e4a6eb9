"""One round of a run: the context that stages, publishing, training and evaluation share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.chat import Chat
from pipeline.chat.settle import Settled, settle
from pipeline.config import Recipe
from pipeline.errors import StageError
from pipeline.ids import digest
from pipeline.methods import Method, load_method
from pipeline.rows import Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.store.manifest import Manifest


@dataclass(frozen=True)
class Input:
    """The rows a stage reads: how to iterate over them (any number of times), their count, and a digest of
    their content.
    """

    rows: Callable[[], Iterator[Row]]
    count: int
    digest: str
    folder: str = ""  # the stage they come from, for a stage that passes them through


def input_of(run: RunDir, folder: str) -> Input:
    """Return the output of the finished stage (or task set) in `folder` as another stage's input."""
    manifest = run.manifest(folder)
    if manifest is None:
        raise StageError(f"{folder}: run this stage first (its manifest.json is missing).")
    return Input(
        lambda: run.rows(folder), manifest.rows_out, digest([p.sha256 for p in manifest.parts]), folder
    )


class Round:
    """Round `number` of a run ("base": the untrained model). Method and tokenizer are loaded on first use."""

    def __init__(self, run: RunDir, number: RoundKey, recipe: Recipe, method: Method | None = None) -> None:
        self.run, self.number, self.recipe = run, number, recipe
        if method is not None:
            self.method = method

    def __reduce__(self) -> Any:
        return (Round, (self.run, self.number, self.recipe))

    @cached_property
    def method(self) -> Method:
        """The recipe's method."""
        return load_method(self.recipe)

    @cached_property
    def settled(self) -> Settled:
        """The base model, with how conversations with it are written."""
        return settle(self.recipe, self.method.dataset)

    @property
    def tokenizer(self) -> Any:
        """The base model's tokenizer, with the chat template that the run uses."""
        return self.settled.tokenizer

    @property
    def chat(self) -> Chat:
        """How conversations with the model are written."""
        return self.settled.model.chat

    def at(self, number: RoundKey) -> "Round":
        """Return another round of the same run."""
        return Round(self.run, number, self.recipe, self.method)

    def earlier(self, first: int = 0) -> list["Round"]:
        """Return the rounds from `first` up to this one, without it."""
        return [self.at(n) for n in range(first, int(self.number))]

    def folder(self, stage: str) -> str:
        """Return the folder of a stage of this round."""
        return self.run.stage(self.number, stage)

    def manifest(self, stage: str) -> Manifest | None:
        """Return the manifest of a stage, or None when it is not done."""
        return self.run.manifest(self.folder(stage))

    def rows(self, stage: str) -> Iterator[Row]:
        """Yield the rows that a finished stage passed on."""
        return self.run.rows(self.folder(stage))

    def input(self, stage: str) -> Input:
        """Return a finished stage's output as another stage's input."""
        return input_of(self.run, self.folder(stage))
