"""Right and wrong answers, each for itself: what KTO trains on in place of pairs.

Rows in are answers, rows out are labeled answers. Any other is dropped as held_out_exact, held_out_ngram,
control_token or too_long, or as no_answer if its method makes no example that answers the question.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from pipeline.errors import ConfigError
from pipeline.methods import Example, Method
from pipeline.protocols import MakesPairs
from pipeline.publish import token_lengths
from pipeline.rows import Dropped, Kept, Row
from pipeline.stage import LABELS, DatasetStep
from stages.steps.preferences import Rules, fault

_TASK = ("task_id", "question", "answer", "answer_type")


def check_labels(method: Method) -> None:
    """Raise ConfigError if a method's answers are not right or wrong one by one."""
    if isinstance(method, MakesPairs):
        raise ConfigError(
            f"train.kind: method {method.name} makes pairs in its own way, and kto takes answers that are "
            "right or wrong by themselves. Use dpo."
        )


def label(method: Method, rules: Rules) -> DatasetStep:
    """Return the step that labels answers by payload["verdict"]["correct"]."""
    return partial(_label, method, rules)


def _label(
    method: Method, rules: Rules, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | Kept]]:
    for row in rows():
        yield row, _labeled(row, method, rules)


def _labeled(row: Row, method: Method, rules: Rules) -> Dropped | Kept:
    example = _answering(row, method)
    if example is None:
        return Dropped("no_answer", "no example of it answers the question", row.payload["text"])
    completion = rules.chat.completion(example.completion, row.payload)
    lengths = token_lengths(rules.tokenizer, example.prompt, completion)
    if why := fault(rules, row, completion, sum(lengths)):
        return Dropped(why.reason, why.detail, row.payload["text"])
    payload: dict[str, Any] = {
        **{name: row.payload.get(name) for name in _TASK},
        "prompt": example.prompt,
        "completion": completion,
        "label": bool(row.payload["verdict"]["correct"]),
        "text": row.payload["text"],
        "model": row.payload.get("model", ""),
        "verdict": row.payload["verdict"],
        "sampling": example.sampling or row.payload.get("sampling"),
        "hinted": bool(row.payload.get("hinted")),
    }
    made = row.child(LABELS, 0)
    return Kept([Row(made.id, payload, made.parents)])


def _answering(row: Row, method: Method) -> Example | None:
    """Return a row's example that asks the question as evaluation does."""
    asked = method.question(row)
    return next((example for example in method.examples(row) if example.prompt == asked), None)
