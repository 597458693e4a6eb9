"""Tests as public data sets write them, and the program in a model's answer."""

import json
import re
from typing import Any

_FENCE = re.compile(r"^(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("", "python", "python3", "py")


class TestsError(ValueError):
    """Tests that cannot be read."""


def read_tests(value: Any, entry_point: str | None = None) -> dict[str, Any]:
    """Return tests as one of {asserts}, {calls} and {streams}, with `entry_point`; a JSON object.

    Read are: test code (HumanEval's with a function `check`, or plain asserts), a list of asserts (MBPP), and
    {inputs, outputs, fn_name} as an object or JSON text (APPS, TACO, LiveCodeBench): with fn_name each input
    is a list of arguments, without it a standard input. Raises TestsError.
    """
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            value = json.loads(value)
        except ValueError as e:
            raise TestsError(f"the tests begin like a JSON object but are none: {e}") from None
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        value = "\n".join(value)
    if isinstance(value, str):
        return {"asserts": _checked(value), "entry_point": entry_point or ""}
    if not isinstance(value, dict) or "inputs" not in value or "outputs" not in value:
        raise TestsError("expected test code, a list of asserts, or {inputs, outputs}")
    inputs, outputs = list(value["inputs"]), list(value["outputs"])
    if not inputs or len(inputs) != len(outputs):
        raise TestsError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    if name := value.get("fn_name") or entry_point:
        pairs = zip(map(_arguments, inputs), map(_parsed, outputs), strict=True)
        return {"calls": [{"input": i, "output": o} for i, o in pairs], "entry_point": str(name)}
    streams = [{"input": _stream(i), "output": _stream(o)} for i, o in zip(inputs, outputs, strict=True)]
    return {"streams": streams, "entry_point": ""}


def read_program(text: str) -> str | None:
    """Return the last block of Python in an answer, or the whole answer if it is one; None without either."""
    blocks = [body for _, language, body in _FENCE.findall(text) if language.lower() in _PYTHON]
    candidates = [*reversed(blocks), *([] if blocks else [text])]
    return next(
        (code for code in candidates if code.strip() and _compiles(code)), blocks[-1] if blocks else None
    )


def _compiles(code: str) -> bool:
    try:
        compile(code, "<solution>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _checked(code: str) -> str:
    try:
        compile(code, "<tests>", "exec")
    except (SyntaxError, ValueError) as e:
        raise TestsError(f"the tests are no Python: {e}") from None
    if "assert" not in code:
        raise TestsError("the test code asserts nothing")
    return code


def _arguments(value: Any) -> list[Any]:
    """APPS gives a list of arguments; LiveCodeBench a text with one JSON value per line."""
    if isinstance(value, str):
        return [json.loads(line) for line in value.splitlines() if line.strip()]
    return list(value) if isinstance(value, list) else [value]


def _parsed(value: Any) -> Any:
    """APPS wraps an output in a list of one; LiveCodeBench writes it as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _stream(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
