"""The payload of a row: its keys, who writes them and who reads them, and an error that names the writer of a
missing one.
"""

from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.errors import DataError


class Key(NamedTuple):
    """One payload key: the stages that write it, the parts that read it, its meaning and its type in tables.

    Without a type, tables find it from the values.
    """

    written_by: str
    read_by: str
    meaning: str
    type: pa.DataType | None = None


TEXT, COUNT, FLAG, TEXTS = pa.string(), pa.int64(), pa.bool_(), pa.list_(pa.string())
MESSAGES = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))
VERDICT = pa.struct([("correct", FLAG), ("extracted", TEXT), ("problem", TEXT), ("score", pa.float64())])
VOTE = pa.struct([("extracted", TEXT), ("key", TEXT)])

# Keys that more than one part of selfloop relies on. A method's private keys are listed in its own module
# (`declare`).
KEYS: dict[str, Key] = {
    # a task, as the source gives it
    "task_id": Key(
        "tasks", "verify, publish, evaluate", "id of the task: the question that answers belong to", TEXT
    ),
    "question": Key(
        "tasks, propose",
        "every prompt, decontamination",
        "the question, instruction, document or first observation",
        TEXT,
    ),
    "answer": Key("tasks", "verify", "ground truth; None where there is none. Unhinted prompts never see it"),
    "answers": Key(
        "tasks", "verify", "all right answers, the first of which is `answer`, where there are several"
    ),
    "turns": Key(
        "tasks", "every prompt", "messages {role, content} before the question, in a conversation", MESSAGES
    ),
    "answer_type": Key(
        "tasks",
        "verify, evaluate",
        "number, fraction, percentage, math, choice, boolean, text or code",
        TEXT,
    ),
    "answer_marks": Key(
        "tasks", "verify, publish, evaluate", "words before an answer, if the recipe sets them", TEXTS
    ),
    "options": Key("tasks", "prompts, verify", "texts of a multiple-choice question", TEXTS),
    "tests": Key("tasks", "verify, evaluate", "tests of the program that the question asks for"),
    "solution": Key("tasks", "publish", "worked solution of a demonstration", TEXT),
    "document": Key("tasks", "evaluate", "what the question is about: intervals resample documents"),
    "source": Key(
        "tasks", "verify, inspect", "where the task comes from: file and line, or data set and seed"
    ),
    "entry": Key(
        "tasks", "verify, environments", "the source's own record, for its scorer or its environment"
    ),
    "split": Key("tasks", "generate", "train or test, where the source itself separates them", TEXT),
    # an answer, as a model gives it
    "text": Key("generate", "filter, verify, publish", "what the model learns to write", TEXT),
    "thought": Key(
        "generate", "publish", "what the model thought before `text`, with its tags (model.thinking)", TEXT
    ),
    "finish_reason": Key("generate", "filter", "how the engine ended the text: stop, length, ...", TEXT),
    "prompt_tokens": Key("generate", "inspect", "tokens of the prompt", COUNT),
    "completion_tokens": Key("generate", "filter", "tokens of the text", COUNT),
    "sample": Key("generate", "inspect", "number of the sample among those of its question", COUNT),
    "model": Key(
        "generate", "publish", 'name@revision of the model that wrote `text`; "" for real texts', TEXT
    ),
    "sampling": Key(
        "generate", "publish", "sampling parameters of `text`, where they differ from the recipe's"
    ),
    "hinted": Key(
        "generate, critique", "publish", "the ground truth was shown while the text was written", FLAG
    ),
    "verdict": Key("verify", "publish, pairs", "correct, extracted, problem, score", VERDICT),
    "vote": Key("verify", "majority_vote", "the extracted answer and the key that equal answers share", VOTE),
    # questions a model writes
    "shown": Key("propose", "propose", "known questions that a request for new ones shows"),
    "proposed_by": Key(
        "propose", "critique, verify", "name@revision of the model that wrote the question", TEXT
    ),
    "asked": Key(
        "verify", "publish", "the question as training asks it, where that differs from `question`", TEXT
    ),
    # conversations of many turns
    "messages": Key("verify", "publish", "turns after the question", MESSAGES),
    "learn": Key("verify", "publish", "per message: does the loss fall on it"),
    # what publishing and evaluation add
    "too_long_examples": Key(
        "publish", "publish", "indices of the row's examples beyond train.max_length", pa.list_(COUNT)
    ),
    "greedy": Key("evaluate", "evaluate, reports", "the judged greedy answer"),
    "samples": Key("evaluate", "evaluate", "judged sampled answers"),
    "refined": Key("evaluate", "evaluate", "the judged greedy answer after refinement"),
    "refined_samples": Key("evaluate", "evaluate", "judged samples after refinement"),
    "resumed": Key("resume", "evaluate", "score of a continued attempt"),
}


class MissingKeyError(DataError, KeyError):
    """A row lacks a payload key that a stage reads."""

    __str__ = Exception.__str__  # KeyError would print the repr of the message


class Payload(dict[str, Any]):
    """A row's content: JSON values by key. Reading a key that is not there raises MissingKeyError."""

    def __missing__(self, key: str) -> Any:
        known = KEYS.get(key)
        writer = f"It is written by: {known.written_by}" if known else "No stage of selfloop declares it"
        raise MissingKeyError(
            f"payload key {key!r} is missing. {writer}. This row has: "
            f"{', '.join(sorted(self)) or 'no keys'}. "
            "Let that stage write it (the table is in pipeline/payload.py)."
        )


def declare(keys: dict[str, Key]) -> None:
    """Add a method's own payload keys to the table, for error messages."""
    KEYS.update(keys)
