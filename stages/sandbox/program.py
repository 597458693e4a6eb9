"""The program's side: run the code under test once, then answer calls of its functions, one at a time."""

import builtins
import socket
import sys
from typing import Any

from stages.sandbox import wire

MAX_ITEMS = 100_000  # of an iterator that the tests go through


def serve(code: str, channel: socket.socket) -> None:
    """Execute `code` as a module, say what it defines, and answer calls until the tests hang up."""
    names: dict[str, Any] = {"__name__": "solution", "__builtins__": builtins}
    try:
        exec(compile(code, "<solution>", "exec"), names)
    except BaseException as e:
        wire.send(channel, {"error": describe(e)})
        return
    wire.send(channel, {"defines": [name for name, value in names.items() if callable(value)]})
    objects: list[Any] = []

    def refer(value: Any) -> int:
        objects.append(value)
        return len(objects) - 1

    while True:
        try:
            call = wire.receive(channel)
        except EOFError:
            return
        try:
            reply = _answer(call, names, objects, refer)
        except BaseException as e:  # SystemExit too: leaving is no way to pass
            reply = {"raised": type(e).__name__, "detail": describe(e)}
        wire.send(channel, reply)


def _answer(call: dict[str, Any], names: dict[str, Any], objects: list[Any], refer: wire.Refer) -> Any:
    owner = call.get("object")
    what = call["name"]
    if owner is None:
        target = names[what]
        for part in call.get("path", ()):
            target = getattr(target, part)
    elif what == "__iter__":
        items = [item for item, _ in zip(objects[owner], range(MAX_ITEMS), strict=False)]
        return {"value": wire.encode(items, refer)}
    else:
        target = getattr(objects[owner], what)
    if call.get("get"):
        return {"value": wire.encode(target, refer), "callable": callable(target)}
    arguments = [wire.decode(a, objects.__getitem__) for a in call["args"]]
    named = {k: wire.decode(v, objects.__getitem__) for k, v in call["kwargs"].items()}
    value = target(*arguments, **named)
    # A function may change its arguments in place; the tests see that.
    return {"value": wire.encode(value, refer), "args": [wire.encode(a, refer) for a in arguments]}


def run(code: str) -> None:
    """Run `code` as a script, with the standard streams as they are."""
    try:
        exec(compile(code, "<solution>", "exec"), {"__name__": "__main__", "__builtins__": builtins})
    except SystemExit as e:
        if e.code not in (None, 0):
            raise
    finally:
        sys.stdout.flush()


def describe(error: BaseException) -> str:
    """Return the error with the line of the program where it arose."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<solution>":
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == "<solution>":
        line = error.lineno or 0
    where = f"line {line}: " if line else ""
    try:
        said = str(error)[:500]
    except BaseException:
        said = ""
    return f"{where}{type(error).__name__}{': ' if said else ''}{said}"
