"""Write a starter recipe: python -m jobs.init FILE.yaml [--tasks FILE_OR_HUB_NAME]"""

import re
import shlex
from pathlib import Path
from typing import Annotated, get_args

import typer

from jobs.common import main
from jobs.guess import Guess, guess, yaml_text
from jobs.showing import show
from pipeline.config import Source, load_recipe, presets
from pipeline.errors import ConfigError

ANSWER_TYPES = get_args(Source.model_fields["answer_type"].annotation)
ANSWERS_ARE = ("index0", "index1", "letter", "text")
MAX_TOKENS = 512


def init(
    path: Annotated[str, typer.Argument(metavar="FILE.yaml", help="recipe to write; must not exist")],
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks", help="your questions: a file, glob, folder or Hub dataset", show_default=False
        ),
    ] = None,
    question: Annotated[str | None, typer.Option("--question", metavar="COLUMN")] = None,
    answer: Annotated[str | None, typer.Option("--answer", metavar="COLUMN")] = None,
    no_answers: Annotated[bool, typer.Option("--no-answers", help="there is no ground truth")] = False,
    options: Annotated[
        str | None, typer.Option("--options", metavar="COLUMN", help="list of choices of each question")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", metavar="COLUMN")] = None,
    answer_type: Annotated[
        str | None, typer.Option("--answer-type", help=f"one of {', '.join(ANSWER_TYPES)}")
    ] = None,
    answer_is: Annotated[
        str | None,
        typer.Option("--answer-is", help=f"how choices name their option: {', '.join(ANSWERS_ARE)}"),
    ] = None,
    config: Annotated[str | None, typer.Option("--config", help="configuration of a Hub dataset")] = None,
    split: Annotated[str | None, typer.Option("--split", help="split of a Hub dataset")] = None,
) -> None:
    """Write a commented recipe. With --tasks, guess columns and answer type from the data, and say why."""
    if Path(path).exists():
        raise ConfigError(f"{path}: exists already. Choose another name, or delete it first.")
    if answer_type not in (None, *ANSWER_TYPES):
        raise ConfigError(f"--answer-type {answer_type!r}: expected one of {', '.join(ANSWER_TYPES)}")
    if answer_is not in (None, *ANSWERS_ARE):
        raise ConfigError(f"--answer-is {answer_is!r}: expected one of {', '.join(ANSWERS_ARE)}")
    if answer and no_answers:
        raise ConfigError("--answer and --no-answers: give one of them")
    named: dict[str, str | None] = {"question": question, "answer": answer, "options": options, "id": id_}
    named = {field: column for field, column in named.items() if column is not None}
    if no_answers:
        named["answer"] = None
    hub = {key: value for key, value in (("name", config), ("split", split)) if value}
    if tasks is None and (named or hub or answer_type or answer_is):
        raise ConfigError("--tasks is missing: the file, folder or Hub dataset that has these columns")
    guessed = guess(tasks, named, answer_type, hub, answer_is) if tasks else None
    with open(path, "x", encoding="utf-8") as f:
        f.write(_recipe(path, guessed))
    load_recipe(path)
    if guessed:
        _report(guessed)
    show(f"written: {path}. Edit it, then start: selfloop iterate {shlex.quote(path)}")


def _recipe(path: str, guessed: Guess | None) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-._") or "mine"
    tokens = MAX_TOKENS + (guessed.longest // 3 if guessed else 0)  # 3 characters a token is a safe estimate
    length = max(1024, -(-tokens // 256) * 256)
    start = f"selfloop iterate {shlex.quote(path)}"
    return f"""\
# A starter recipe by `selfloop init`. Start or resume it:  {start}
# All settings with their defaults:  {start} --print-config
name: {yaml_text(name)}
rounds: 2
model:
  base: smollm2-135m-instruct   # the packaged model; or a folder, or a Hub id: Qwen/Qwen2.5-0.5B-Instruct
engine:
  kind: vllm                    # or openai, for an endpoint
  args: {{max_model_len: {length}}}   # tokens of question and answer together
{_tasks(guessed)}
# demonstrations:               # optional worked examples, which round 0 trains on; fields as in tasks
#   {{source: jsonl, path: worked.jsonl, columns: {{question: question, answer: answer, solution: solution}}}}
{_held_out(guessed)}
# questions_per_round: 500      # a seeded draw per round; default: all
sampling:
  temperature: 0.8
  max_tokens: {MAX_TOKENS}               # of an answer; longer ones are dropped
method:
  name: direct                  # sample, verify, keep; `selfloop recipes` shows the other methods
  samples: 4                    # answers per question
  keep_per_question: 2
{_verifier(guessed)}
train:
  learning_rate: 1.0e-5
  epochs: 2
  max_length: {length}              # tokens; longer examples are left out and counted
"""


def _tasks(guessed: Guess | None) -> str:
    if guessed is None:
        return """\
tasks:
  source: jsonl                 # or csv, parquet, hf, reasoning_gym, documents, environment, module:function
  path: questions.jsonl         # {"question": "What is 2 + 2?", "answer": 4}; relative to where you start
  columns: {question: question, answer: answer}   # also id, options (of a choice), solution
  answer_type: number           # or fraction, percentage, math, choice, boolean, text
  on_bad_row: fail              # skip: leave unusable rows out, recorded under tasks/rejected"""
    source = {key: value for key, value in guessed.source.items() if value}
    lines = ["tasks:", *(f"  {key}: {yaml_text(value)}" for key, value in source.items())]
    lines += [f"  # {field}: {reason}" for field, reason in guessed.why.items()]
    bad = guessed.rows - guessed.usable
    if "preset" in source:
        settings = Source.model_validate(source)
        columns = {field: column for field, column in settings.columns.model_dump().items() if column}
        read = ", ".join(
            f"{key}: {value}"
            for key in ("answer_type", "answer_mark", "answer_is", "on_bad_row")
            if (value := getattr(settings, key)) is not None
        )
        return "\n".join([*lines, f"  # which sets columns: {yaml_text(columns)}", f"  # and {read}"])
    on_bad_row = f"skip              # {bad} of {guessed.rows} rows read cannot be used" if bad else "fail"
    return "\n".join(
        [
            *lines,
            f"  columns: {yaml_text(guessed.columns)}",
            f"  answer_type: {guessed.answer_type}",
            f"  on_bad_row: {on_bad_row}",
        ]
    )


def _held_out(guessed: Guess | None) -> str:
    if guessed and presets.held_out_source(guessed.source):
        return """\
held_out:                       # the test split of the same data set
  count: 200                    # of its questions, by hash of the id; default: all"""
    if guessed and guessed.columns["answer"] is None:
        return """\
held_out:                       # the tasks have no answers, so evaluation needs questions that do
  source: {source: jsonl, path: checked.jsonl}"""
    if guessed and guessed.complete:
        return (
            f"held_out:\n  count: {max(1, guessed.usable // 5):<22} # of {guessed.usable}, by hash of the id"
        )
    return "held_out:\n  share: 0.2                    # of the tasks, by hash of the id; or count: 200"


def _verifier(guessed: Guess | None) -> str:
    if guessed and guessed.columns["answer"] is None:
        return "verifier: majority_vote         # the most frequent answer; {kind: judge} for open questions"
    return "verifier: ground_truth          # compares by value; or majority_vote, module:function"


def _report(guessed: Guess) -> None:
    rows = f"{guessed.rows} rows" if guessed.complete else f"the first {guessed.rows} rows"
    show(f"read {rows} with source {guessed.source['source']}")
    for field, reason in guessed.why.items():
        given = {**guessed.columns, "answer_type": guessed.answer_type, **guessed.source}
        show(f"{field:<12}{given[field]}: {reason}", 2)
    if bad := guessed.rows - guessed.usable:
        show(f"{bad} of these rows cannot be used; on_bad_row: skip leaves such rows out", 2, "yellow")


if __name__ == "__main__":
    main(init)
