"""Actions in what models write: markup, quotes, other layouts; several lines; and what is no action."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.environments.actions import Move, one_line, several_lines, unlabel


@pytest.mark.parametrize(
    "turn",
    [
        "Action: take apple",
        "Action:\ntake apple",
        "Action:\n\n  take apple",
        "**Action**: take apple",
        "**Action:** take apple",
        "**Action: take apple**",
        "*Action:* take apple",
        "***Action:*** take apple",
        "__Action__: take apple",
        "_Action: take apple_",
        "`Action: take apple`",
        "### Action\ntake apple",
        "### Action ###\ntake apple",
        "### Action: take apple",
        "## **Action 1**\n\n```\ntake apple\n```",
        "**Action**\n\ntake apple",
        "Action:\n```text\ntake apple\n```",
        "Action: ```take apple```",
        "Action: ``take apple``",
        "Action: `take apple`",
        "- **Action:** `take apple`.",
        "Action: **take apple**",
        "Action: *take apple*",
        "Action: _take apple_",
        "Action: __take apple__",
        "Action: ~~take apple~~",
        "My action is: take apple",
        "--- Action ---\ntake apple",
        'Action: "take apple"',
        "Action: 'take apple'",
        "Action: \u201ctake apple\u201d",
        "Action: \u00abtake apple\u00bb",
        "Action: \u300ctake apple\u300d",
        'Action: **"take apple"**',
        "Action\uff1a take apple",
        "\uff21\uff43\uff54\uff49\uff4f\uff4e\uff1atake apple",
        "1. Action: take apple",
        "Action 1: take apple",
        "Action #2: take apple",
        "Action (3): take apple",
        "(Action): take apple",
        "[Action]: take apple",
        "[Action] take apple",
        "> Action: take apple",
        "\u2022 Action: take apple",
        "\U0001f3ac Action: take apple",
        "Action: > take apple",
        "Action:\n- take apple",
        "Action:\n1. take apple",
        "Action -> take apple",
        "Action \u2014 take apple",
        "<action>take apple</action>",
        "<action>\ntake apple\n</action>",
        "ACTION: take apple",
        "Next action: take apple",
        "Act: take apple",
        "Act 1: take apple",
        "Action\u200b:\u00a0take apple\u200b",
        "\ufeff**Action:**\u200e take apple",
        "Thought: I am hungry.\n**Action:** take apple",
        "**Thought:** I am hungry.\n**Action:**\ntake apple",
        "Sure!\nThought: My next action: eat first.\nAction: take apple",
        "Thought: go. **Action:** take apple",
        "Action plan: eat.\nAction: take apple",
        "Action:\nThought: hm.\nAction: take apple",
        '{"thought": "hm", "action": "take apple"}',
    ],
)
def test_markup_layout_and_invisible_characters_are_no_part_of_an_action(turn: str) -> None:
    assert one_line(turn) == (turn, "take apple"), "and the turn is kept as it was written"
    made_up = f"{turn}\nObservation: you have it.\nThought: on.\nAction: eat apple"
    assert one_line(made_up) == (turn, "take apple")
    assert one_line(made_up.replace("Observation:", "**Observation:**")) == (turn, "take apple")


@pytest.mark.parametrize(
    "text",
    [
        "I would take the apple",
        "Action:",
        "**Action:**",
        "Thought: that was my last action. :)",
        "Thought: I act as a hero.",
        "Observation: you see an apple.\nAction: take apple",
        "Action:\n\n**Observation:** you see an apple.\nAction: take apple",
        "Action-packed scenes: many",
    ],
)
def test_what_is_no_action(text: str) -> None:
    assert one_line(text).action == ""


@pytest.mark.parametrize(
    "action",
    [
        "take farmer's apple",
        "say 'yes' and 'no'",
        "ls *",
        "say \u0645\u06cc\u200c\u0631\u0648\u0645",  # the joiner is part of the word
        "search[**bold** and plain]",
        "2 apples",
        "-1",
        "a: b",
        ".",
    ],
)
def test_what_belongs_to_an_action_stays(action: str) -> None:
    assert one_line(f"* Action: {action}").action == action


CODE = "for i in a:\n    print(i)  # observation: none"


@pytest.mark.parametrize(
    ("turn", "action"),
    [
        (f"Action:\n```python\n{CODE}\n```", CODE),
        (f"Thought: loop.\n**Action:**\n\n~~~\n{CODE}\n~~~", CODE),
        ("Action: SELECT *\nFROM t\nWHERE a = 1;", "SELECT *\nFROM t\nWHERE a = 1;"),
        ("<action>\nSELECT *\nFROM t\n</action>", "SELECT *\nFROM t"),
        ('Action: {"name": "f",\n  "arguments": {}}', '{"name": "f",\n  "arguments": {}}'),
        ("Action: `go north`", "go north"),
    ],
)
def test_actions_of_several_lines(turn: str, action: str) -> None:
    assert several_lines(turn) == (turn, action)
    assert several_lines(f"{turn}\nObservation: done.\nAction: more") == (turn, action)


def test_lines_of_code_end_where_the_next_thought_begins() -> None:
    text = "Action: x = 1\ny = 2\n**Thought:** on.\nAction: z"
    assert several_lines(text) == ("Action: x = 1\ny = 2", "x = 1\ny = 2")
    assert several_lines("Action:\n```sql\nSELECT") == ("Action:\n```sql\nSELECT", "SELECT"), "cut off"


PIECES = ["Action", "action", ":", "\uff1a", "**", "*", "_", "`", "```", "\n", " ", "Thought", "Observation"]
PIECES += ["<action>", "</action>", "\u200b", "\u200d", '"', "- ", "1. ", "x", "get 1", "#", "->", "\u2028"]
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text()


@given(texts)
def test_a_turn_is_a_beginning_of_the_text_and_reads_the_same_again(text: str) -> None:
    for read in (one_line, several_lines):
        move = read(text)
        assert isinstance(move, Move) and text.strip().startswith(move.turn)
    assert one_line(one_line(text).turn).turn == one_line(text).turn


@given(texts)
def test_a_reason_without_labels_precedes_an_action_and_does_not_become_it(reason: str) -> None:
    said = f"Thought: {unlabel(' '.join(reason.split()))}\nAction: reflect"
    assert one_line(said) == (said, "reflect")


@pytest.mark.parametrize("piece", ["action\n", "Action: ", "- ", "*", "`", "1.", " ", "[act", "\u200b"])
def test_hostile_text_takes_little_time(piece: str) -> None:
    began = time.process_time()
    for read in (one_line, several_lines, unlabel):
        read(f"Action: {piece * 3000}")
        read(piece * 3000)
    assert time.process_time() - began < 10
