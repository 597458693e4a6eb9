"""A reasoning_gym dataset's own scorer, asked about an answer that a model wrote."""

import ast
import re
import sys
from functools import lru_cache
from typing import Any

import orjson

from pipeline.errors import DataError
from stages.tasks.entries import unpack

# These scorers hand the answer to Python: `eval` for a list, or sympy's parse_expr, which is `eval` too. A model's text must not be run.
_EVALUATE_LISTS = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")
_EVALUATE_FORMULAS = (
    "countdown",
    "intermediate_integration",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
)
_FORMULA = re.compile(r"[\w\s+\-*/^().,]{0,1000}")
_WORD = re.compile(r"[^\W\d]\w*")
_FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "log",
        "ln",
        "sqrt",
        "pi",
    ]
)


def score_answer(payload: dict[str, Any], answer: str | None) -> float:
    """Return the score (0 to 1) that the dataset of a task's payload gives `answer`.

    A formula that calls anything but a mathematical function scores 0 where the scorer would have run it. Raises DataError when the payload
    is not that of a reasoning_gym task. Some scorers take very long over some formulas (9**9**9): callers put a time limit around this.
    """
    entry, name = payload.get("entry"), payload["source"].get("dataset")
    if entry is None or name is None:
        raise DataError(
            f"task {payload.get('task_id')} does not come from reasoning_gym and has no scorer; use verifier: ground_truth."
        )
    part = entry["metadata"].get(
        "source_dataset", name
    )  # a composite's entries are scored by the dataset they come from
    if answer is None or (part in _EVALUATE_FORMULAS and not _is_formula(answer)):
        return 0.0
    return float(_scorer_of(payload["source"]).score_answer(answer, unpack(entry)))


def prepare(payload: dict[str, Any], answer: str | None) -> None:
    """Import and make what scores such a task: neither depends on the answer, so neither may count against its time (pipeline.limited)."""
    if payload.get("entry") is not None and payload["source"].get("dataset") is not None:
        _scorer_of(payload["source"])


def _scorer_of(source: dict[str, Any]) -> Any:
    return _scorer(source["dataset"], orjson.dumps(source.get("options", {}), option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=64)
def _scorer(name: str, options: bytes) -> Any:
    from stages.tasks.gym import (  # a second of CPU, which every stage worker would pay for
        find_dataset,
        make_dataset,
    )

    for other in _EVALUATE_LISTS:  # all of them, because a composite may hold any
        module = sys.modules[find_dataset(other)[0].__module__]
        module.eval = (
            ast.literal_eval
        )  # shadows the builtin in this module, whose one use of it is to read a list
    return make_dataset(name, {"seed": 0, **orjson.loads(options), "size": 10})


def _is_formula(answer: str) -> bool:
    words = _WORD.findall(answer)
    return _FORMULA.fullmatch(answer) is not None and all(len(w) == 1 or w in _FUNCTIONS for w in words)
