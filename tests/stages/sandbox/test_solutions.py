"""Right and mutated solutions of the shipped tasks: no wrong verdict."""

import ast
import itertools
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from pipeline.places import PROJECT
from stages.sandbox import Job, Outcome, Sandbox, isolation_problem
from stages.sandbox.layouts import read_program, read_tests

pytestmark = pytest.mark.skipif(bool(isolation_problem()), reason=f"no isolation: {isolation_problem()}")

TASKS = [json.loads(line) for line in (PROJECT / "data" / "code" / "tasks.jsonl").read_text().splitlines()]
STEPS = 3_000  # lines that a mutant may execute here
MUTANTS = 7  # per task, at most


def variants(solution: str) -> list[str]:
    """Return answers that hold the solution: bare, fenced, after a false start, with noise around it."""
    name = solution.split("(")[0].removeprefix("def ")
    return [
        solution,
        f"Here it is.\n\n```python\n{solution}\n```\nIt loops once.",
        f"```python\ndef {name}(:\n```\nThat was wrong. Again:\n```py\n{solution}\n```",
        f"```python\nimport sys\n\n{solution}\n\nprint('debug', file=sys.stderr)\nprint('done')\n```",
        f"```python\n{solution}\n\nif __name__ == '__main__':\n    raise SystemExit({name}.__name__)\n```",
    ]


class Mutation(ast.NodeTransformer):
    """Changes the n-th place that can be changed."""

    swaps: ClassVar = {
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.Add,
        ast.Mod: ast.FloorDiv,
        ast.Lt: ast.GtE,
        ast.LtE: ast.Lt,
        ast.Gt: ast.LtE,
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
        ast.In: ast.NotIn,
        ast.And: ast.Or,
        ast.Or: ast.And,
    }

    names: ClassVar = {
        "max": "min",
        "min": "max",
        "sorted": "list",
        "sum": "len",
        "lower": "upper",
        "append": "count",
    }

    def __init__(self, place: int) -> None:
        self.left = place

    def _here(self) -> bool:
        self.left -= 1
        return self.left == -1

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if type(node) in self.swaps and self._here():
            return self.swaps[type(node)]()
        if isinstance(node, ast.Constant) and type(node.value) in (int, str) and self._here():
            return ast.Constant(node.value + (1 if isinstance(node.value, int) else "e"))
        if isinstance(node, ast.Return) and self._here():
            return ast.Return(ast.Constant(None))
        if isinstance(node, ast.Name) and node.id in self.names and self._here():
            return ast.Name(self.names[node.id], node.ctx)
        if isinstance(node, ast.Attribute) and node.attr in self.names and self._here():
            return ast.Attribute(node.value, self.names[node.attr], node.ctx)
        return node


def mutants(task: dict[str, Any]) -> Iterator[str]:
    """Yield changed solutions that fail the task's tests here, in this process."""
    for place in itertools.count():
        mutation = Mutation(place)
        code = ast.unparse(ast.fix_missing_locations(mutation.visit(ast.parse(task["solution"]))))
        if mutation.left >= 0:
            return
        if not passes(code, task["tests"]):
            yield code


def passes(code: str, tests: list[str]) -> bool:
    """Execute a shipped solution, or a mutant of one, with its tests, for a bounded number of lines."""
    steps = itertools.count()

    def trace(frame: Any, event: str, _: Any) -> Any:
        if next(steps) > STEPS:
            raise TimeoutError
        return trace

    names: dict[str, Any] = {}
    before = sys.gettrace()
    try:
        sys.settrace(trace)
        exec(code, names)
        for test in tests:
            exec(test, names)
    except (Exception, RecursionError):
        return False
    finally:
        sys.settrace(before)
    return True


@pytest.mark.slow
def test_no_verdict_is_wrong() -> None:
    right = [(task, text) for task in TASKS for text in variants(task["solution"])]
    wrong = [(task, code) for task in TASKS for code in itertools.islice(mutants(task), MUTANTS)]
    assert len(right) >= 200 and len(wrong) >= 200
    sandbox = Sandbox()

    def run(pair: tuple[dict[str, Any], str]) -> Outcome:
        task, text = pair
        code = read_program(text)
        assert code is not None
        return sandbox.run(Job(code=code, **read_tests(task["tests"], task["entry_point"])))

    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(run, right + wrong))
    for (_, text), outcome in zip(right, verdicts, strict=False):
        assert outcome.total and outcome.passed == outcome.total, (text, outcome)
    for (_, text), outcome in zip(wrong, verdicts[len(right) :], strict=True):
        assert outcome.passed < outcome.total, (text, outcome)


@pytest.mark.parametrize(
    ("tests", "entry_point", "code", "passed"),
    [
        # HumanEval: a function check(candidate)
        (
            "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\n",
            "f", "def f(x): return 2 * x", 2,
        ),
        # MBPP: a list of asserts, some with imports and other calls around the function
        (
            ["import math", "assert math.isclose(f(2), 4.0)", "assert set(f2([1, 2])) == {1, 2}"],
            None, "def f(x): return 2.0 * x\ndef f2(l): return iter(l)", 2,
        ),
        # APPS: a function and cases, one of which wraps its output in a list
        ({"fn_name": "f", "inputs": [[2], [3]], "outputs": [[4], 6]}, None, "def f(x): return 2 * x", 2),
        (
            {"fn_name": "Solution().f", "inputs": [[2]], "outputs": [4]},
            None, "class Solution:\n    def f(self, x): return 2 * x", 1,
        ),
        # APPS: standard input and output
        (
            json.dumps({"inputs": ["2\n", "3\n"], "outputs": ["4\n", "6 "]}),
            None, "print(2 * int(input()))", 2,
        ),
        (
            {"inputs": [["2", "3"]], "outputs": [["5"]]},
            None, "import sys\nprint(sum(map(int, sys.stdin)))\nsys.exit(0)", 1,
        ),
        # LiveCodeBench: arguments and result as JSON text
        (
            {"fn_name": "f", "inputs": ["[1, 2]\n3"], "outputs": ["[4, 5]"]},
            None, "def f(a, n): return [x + n for x in a]", 1,
        ),
        # a class, changes in place, exceptions
        (
            "s = Stack()\ns.push(3)\nassert s.pop() == 3",
            None,
            "class Stack:\n    def __init__(self): self.a = []\n"
            "    def push(self, x): self.a.append(x)\n    def pop(self): return self.a.pop()",
            1,
        ),
        ("a = [3, 1]\nf(a)\nassert a == [1, 3]", None, "def f(a): a.sort()", 1),
        (
            "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False\nassert f(1) == 1",
            None, "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x", 1,
        ),
        (
            "assert f({(1, 2): {3}}, b'x', 10**30) == ({(1, 2): {3}}, b'x', 10**30)",
            None, "def f(*a): return a", 1,
        ),
    ],
)  # fmt: skip
def test_layouts_as_published(tests: Any, entry_point: str | None, code: str, passed: int) -> None:
    outcome = Sandbox(size=1).run(Job(code=code, **read_tests(tests, entry_point)))
    assert outcome == Outcome(passed, passed, ""), outcome
