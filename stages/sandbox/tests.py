"""The tests' side: run trusted test code in a process of its own, with stand-ins for the program's functions.

The program never shares a process with its tests, so it can neither patch them, nor leave early and pass, nor
return an object that claims to equal everything.
"""

import ast
import builtins
import socket
from typing import Any

from stages.sandbox import wire

# What a program may raise in its tests. Unicode errors want further arguments.
_RAISED: dict[str, type[Exception]] = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception) and not issubclass(value, UnicodeError)
}
SHOWN = 300  # characters of a failed test in the report


class ProgramGoneError(BaseException):
    """The program ended, or never ran; no further test can pass."""


class Remote:
    """An object in the program: it has methods and may be iterated; it equals nothing but itself."""

    def __init__(self, program: "Program", number: int) -> None:
        self._program, self._number = program, number

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        reply = self._program.exchange({"object": self._number, "name": name, "get": True})
        if not reply["callable"]:
            return self._program.decode(reply["value"])
        return lambda *args, **kwargs: self._program.call(
            {"object": self._number, "name": name}, args, kwargs
        )

    def __iter__(self) -> Any:
        reply = self._program.exchange({"object": self._number, "name": "__iter__"})
        return iter(self._program.decode(reply["value"]))

    def __next__(self) -> Any:
        return self._program.call({"object": self._number, "name": "__next__"}, (), {})

    def __len__(self) -> int:
        return self._program.call({"object": self._number, "name": "__len__"}, (), {})

    def __getitem__(self, key: Any) -> Any:
        return self._program.call({"object": self._number, "name": "__getitem__"}, (key,), {})

    def __str__(self) -> str:
        return str(self._program.call({"object": self._number, "name": "__str__"}, (), {}))

    __repr__ = __str__


class Program:
    """The connection to the program."""

    def __init__(self, channel: socket.socket) -> None:
        """Wait until the program has run. Raises ProgramGoneError if it failed."""
        self._channel = channel
        hello = self._receive()
        if "error" in hello:
            raise ProgramGoneError(hello["error"])
        self.defines = {str(name) for name in hello["defines"]}

    def function(self, name: str) -> Any:
        """Return a stand-in for the function or class `name`; `Class().method` makes an object per call."""
        maker, dot, method = name.partition("().")
        if dot:
            return lambda *args, **kwargs: getattr(self.function(maker)(), method)(*args, **kwargs)
        return lambda *args, **kwargs: self.call({"name": name}, args, kwargs)

    def call(self, target: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the program; changes it makes to lists, sets and dicts are made here too."""
        reply = self.exchange(
            target
            | {
                "args": [self._encode(a) for a in args],
                "kwargs": {k: self._encode(v) for k, v in kwargs.items()},
            }
        )
        for before, after in zip(args, reply.get("args", ()), strict=False):
            _update(before, self.decode(after))
        return self.decode(reply["value"])

    def exchange(self, call: dict[str, Any]) -> dict[str, Any]:
        """Send a call and return the reply. Raises what the program raised, if it is a built-in exception."""
        try:
            wire.send(self._channel, call)
        except OSError:
            raise ProgramGoneError("the program ended before its tests") from None
        reply = self._receive()
        if "raised" in reply:
            raise _RAISED.get(reply["raised"], RuntimeError)(reply["detail"])
        return reply

    def decode(self, value: Any) -> Any:
        """Return a value of the program; its objects become Remote."""
        return wire.decode(value, lambda number: Remote(self, number))

    def _encode(self, value: Any) -> Any:
        if isinstance(value, Remote):
            return {"object": value._number}
        return wire.encode(value)

    def _receive(self) -> Any:
        try:
            return wire.receive(self._channel)
        except (EOFError, OSError, ValueError):
            raise ProgramGoneError("the program ended before its tests") from None


class Cases:
    """Counts what passed and keeps the first failure."""

    def __init__(self) -> None:
        self.passed = self.total = 0
        self.error = ""

    def case(self, source: str) -> "Case":
        """Return a context that counts as one test."""
        return Case(self, source)

    def report(self) -> dict[str, Any]:
        """Return the counts and the first failure as JSON."""
        return {"passed": self.passed, "total": self.total, "error": self.error}


class Case:
    """One test; an exception in it is its failure, and the next test goes on."""

    def __init__(self, cases: Cases, source: str) -> None:
        self._cases, self._source = cases, source

    def __enter__(self) -> None:
        self._cases.total += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if error is None:
            self._cases.passed += 1
            return False
        said = (
            ""
            if isinstance(error, AssertionError) and not str(error)
            else f": {type(error).__name__}: {error}"
        )
        self._cases.error = self._cases.error or f"{self._source[:SHOWN]}{said[:SHOWN]}"
        return isinstance(error, Exception) and not isinstance(error, wire.NotPlainError)


class _Counted(ast.NodeTransformer):
    """Puts each assert into a case of its own."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        called = ast.Call(ast.Name("__case__", ast.Load()), [ast.Constant(ast.unparse(node)[:SHOWN])], [])
        return ast.copy_location(ast.With([ast.withitem(called, None)], [node]), node)


def run_asserts(tests: str, entry_point: str, program: Program, cases: Cases) -> None:
    """Run test code with asserts; a function `check` that it defines is called with the entry point."""
    tree = ast.fix_missing_locations(_Counted().visit(ast.parse(tests)))
    compiled = compile(tree, "<tests>", "exec")
    names: dict[str, Any] = {"__name__": "tests", "__case__": cases.case}
    for name in _wanted(tree) & program.defines | ({entry_point} if entry_point else set()):
        names[name] = program.function(name)
    if entry_point:
        names["candidate"] = names[entry_point]
    try:
        exec(compiled, names)
        if callable(check := names.get("check")) and entry_point:
            check(names[entry_point])
    except wire.NotPlainError:
        raise
    except Exception as e:
        cases.total += 1
        cases.error = cases.error or f"{type(e).__name__}: {e}"[:SHOWN]


def run_calls(calls: list[dict[str, Any]], entry_point: str, program: Program, cases: Cases) -> None:
    """Call the entry point with each case's `input` (a list of arguments) and compare with its `output`."""
    function = program.function(entry_point)
    for call in calls:
        with cases.case(f"{entry_point}({', '.join(map(repr, call['input']))}) == {call['output']!r}"):
            given = function(*call["input"])
            assert same(given, call["output"]), f"it gives {given!r}"


def same(given: Any, wanted: Any) -> bool:
    """Compare as JSON does, without tuples; floats to six digits."""
    if isinstance(given, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return len(given) == len(wanted) and all(map(same, given, wanted))
    if isinstance(given, dict) and isinstance(wanted, dict):
        keyed = {str(k): v for k, v in given.items()}
        return keyed.keys() == {str(k) for k in wanted} and all(
            same(keyed[str(k)], v) for k, v in wanted.items()
        )
    if isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if isinstance(given, (int, float)) and isinstance(wanted, (int, float)):
        if isinstance(given, int) and isinstance(wanted, int):
            return given == wanted
        return given == wanted or abs(given - wanted) <= 1e-6 * max(1.0, abs(wanted))
    return type(given) is type(wanted) and given == wanted


def _wanted(tree: ast.AST) -> set[str]:
    """Return the names that the tests use and do not make themselves; a program never replaces a built-in."""
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    made |= {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            made |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return used - made - set(vars(builtins)) - {"__case__", "check", "candidate"}


def _update(before: Any, after: Any) -> None:
    if type(before) is not type(after) or before == after:
        return
    if isinstance(before, list):
        before[:] = after
    elif isinstance(before, (dict, set)):
        before.clear()
        before.update(after)
