"""The plain question: one chat for sampling, training and evaluation, whatever method asks it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pipeline.engines.base import Message
from pipeline.prompts import Prompts

SOLVE = "direct/solve"
TASK = "direct/task"


def ask(prompts: Prompts, task: Mapping[str, Any]) -> list[Message]:
    """Return the messages that put a task's question to a model.

    Turns before the question (a system prompt, earlier turns of a chat) come first. A model gets one system
    message: the task's own, and then that of the template.
    """
    given = {"answer_type": task.get("answer_type"), "example": _example(task.get("tests") or {})}
    question = prompts.render(SOLVE, **given, **_task(task))
    asked = [*(task.get("turns") or ()), *question]
    system = "\n\n".join(m["content"] for m in asked if m["role"] == "system")
    rest = [m for m in asked if m["role"] != "system"]
    return [{"role": "system", "content": system}, *rest] if system else rest


def statement(prompts: Prompts, task: Mapping[str, Any]) -> str:
    """Return the question with its options and without instructions, for other prompts to show."""
    return prompts.render(TASK, **_task(task))[-1]["content"]


def as_text(messages: Sequence[Message]) -> str:
    """Return a chat's contents as one text, for a prompt that adds to the question."""
    return "\n\n".join(m["content"] for m in messages)


def mark_asked_for(prompts: Prompts) -> Literal["line", "box", ""]:
    r"""Return how the question's prompt wants the final answer marked: on a line "Answer: ...", in
    \boxed{}, or not at all.
    """
    source = prompts.source(SOLVE)
    on_a_line = any(word in source for word in ("answer_mark", "Answer:", f"{prompts.answer_mark}:"))
    return "line" if on_a_line else "box" if "\\boxed" in source else ""


def _example(tests: Mapping[str, Any]) -> str:
    """Return a test that tells what a program has to define, where only its tests say so."""
    if calls := tests.get("calls"):
        arguments = ", ".join(map(repr, calls[0]["input"]))
        return f"assert {tests['entry_point']}({arguments}) == {calls[0]['output']!r}"
    asserts = [] if tests.get("entry_point") else tests.get("asserts", "").splitlines()
    return next((line.strip() for line in asserts if line.lstrip().startswith("assert")), "")


def _task(task: Mapping[str, Any]) -> dict[str, Any]:
    return {"question": task["question"], "options": task.get("options")}
