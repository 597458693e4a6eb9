"""Score a model's answer with its reasoning_gym dataset's own scorer."""

import ast
import re
import sys
from functools import lru_cache
from typing import Any

import orjson

from pipeline.errors import DataError
from stages.tasks.entries import unpack

# These scorers `eval` the answer, as a list or through sympy's parse_expr. A model's text must never be
# executed.
_EVALUATE_LISTS = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")
_INTEGRATION = ("intermediate_integration", "simple_integration")
_EVALUATE_FORMULAS = ("countdown", "polynomial_multiplication", "puzzle24", *_INTEGRATION)
_FORMULA = re.compile(r"[\w\s+\-*/^().,]{0,1000}")
_WORD = re.compile(r"[^\W\d]\w*")
_FUNCTION = re.compile("a?(?:sin|cos|tan)|(?:sin|cos|tan)h|cot|sec|csc|exp|log|ln|sqrt|pi")


def score_answer(payload: dict[str, Any], answer: str | None) -> float:
    """Return the score (0 to 1) that the dataset of a task's payload gives `answer`.

    Where the scorer would execute a formula, one that calls anything but a mathematical function scores
    0. Some scorers are very slow on some formulas (9**9**9), so put a time limit around this. Raises
    DataError if the payload is not that of a reasoning_gym task.
    """
    entry, name = payload.get("entry"), payload["source"].get("dataset")
    if entry is None or name is None:
        task = payload.get("task_id")
        raise DataError(
            f"task {task} is not from reasoning_gym and has no scorer; use verifier: ground_truth."
        )
    part = entry["metadata"].get("source_dataset", name)  # of a composite
    if answer is None or (part in _EVALUATE_FORMULAS and not _is_formula(answer)):
        return 0.0
    return float(_scorer_of(payload["source"]).score_answer(answer, unpack(entry)))


def prepare(payload: dict[str, Any], answer: str | None) -> None:
    """Create a task's scorer, which must not count against the time of the answer (pipeline.limited)."""
    if payload.get("entry") is not None and payload["source"].get("dataset") is not None:
        _scorer_of(payload["source"])


def _scorer_of(source: dict[str, Any]) -> Any:
    return _scorer(source["dataset"], orjson.dumps(source.get("options", {}), option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=64)
def _scorer(name: str, options: bytes) -> Any:
    # Imported here because it takes a second of CPU that every stage worker would pay for.
    from stages.tasks.gym import find_dataset, make_dataset

    for other in _EVALUATE_LISTS:  # all of them, because a composite may contain any
        module = sys.modules[find_dataset(other)[0].__module__]
        vars(module)["eval"] = (
            ast.literal_eval
        )  # shadows the builtin, which the module uses only to read a list
    return make_dataset(name, {"seed": 0, **orjson.loads(options), "size": 10})


def _is_formula(answer: str) -> bool:
    words = _WORD.findall(answer)
    return bool(_FORMULA.fullmatch(answer)) and all(len(w) == 1 or _FUNCTION.fullmatch(w) for w in words)
