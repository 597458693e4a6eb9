"""Verdicts as chat models write them: read or refused, and put last in what trains a critic."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.base import Completion
from stages.methods.self.verdicts import read_verdict, with_last_line

WORDS = ("correct", "incorrect")
STEP = "Step 1: 20 - 5 is 15, but the answer has 25."


def said(text: str, finish: str = "stop") -> Completion:
    return Completion(text, finish, 1, 1)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (f"{STEP}\nVerdict: incorrect", False),
        (f"{STEP}\n**Verdict**: Incorrect", False),
        (f"{STEP}\n\n**Verdict: Incorrect.**  \n", False),
        (f"{STEP}\n\n### Verdict\n\nIncorrect", False),
        (f"{STEP}\n\n**Verdict:**\n**Incorrect**", False),
        (f"{STEP} Verdict: incorrect", False),
        (f"{STEP}\nFinal Verdict: incorrect", False),
        (f"{STEP}\n2. **Verdict:** Incorrect", False),
        (f"{STEP}\n- Verdict - Incorrect \u274c", False),
        (f"{STEP}\nVerdict: \\boxed{{\\text{{incorrect}}}}", False),
        (f"{STEP}\nVerdict: The answer is incorrect.", False),
        (f"{STEP}\nVerdict: The answer is not correct.", False),
        (f"{STEP}\nThe verdict is: incorrect", False),
        (f"{STEP}\nTherefore, the verdict is that the given answer is incorrect.", False),
        (f"{STEP}\nVerdict: Incorrect (the sum is too large)", False),
        (f"{STEP}\nVerdict: Incorrect. The correct way is to subtract.", False),
        (f"{STEP}\nVerdict: incorrect\n\nLet me know if you have more questions!", False),
        (f"{STEP}\nVerdict: incorrect\n\nThe corrected steps:\n1. 20 - 5 = 15", False),
        (f"**Verdict**: Incorrect\n\n**Explanation**: {STEP}", False),
        (f"{STEP}\n```\nVerdict: incorrect\n```", False),
        (f"```\n{STEP}\nVerdict: incorrect\n```", False),
        (f'```json\n{{"steps": ["{STEP}"], "verdict": "incorrect"}}\n```', False),
        (f'{{"verdict": "incorrect", "reason": "{STEP}"}}', False),
        (f"{STEP}\nSo the answer is incorrect.", False),
        ("Step 1: 12 / 4 is 3. Right.\nAll steps are right.\nVerdict: correct", True),
        ("Step 1: 12 / 4 is 3.\n\n**Verdict:** Correct \u2705", True),
        ("Step 1 is right.\n\nVerdict: Correct. Well done!", True),
        ("All steps are correct.\n\nThe final answer is correct.", True),
        ("verdict = CORRECT", True),
    ],
)
def test_forms_of_a_verdict(text: str, verdict: bool) -> None:
    assert read_verdict(said(text), WORDS) is verdict
    feedback = with_last_line(said(text), verdict, WORDS).text
    *body, last = feedback.splitlines()
    assert last.rstrip() == f"Verdict: {WORDS[not verdict]}" or last in text, "a line as asked stays as it is"
    assert re.fullmatch(r"[\W_]*verdict[\W_]+(in)?correct[\W_]*", last, re.IGNORECASE)
    assert ("20 - 5 is 15" in "\n".join(body)) == ("20 - 5 is 15" in text) and "```" not in feedback
    assert read_verdict(said(feedback), WORDS) is verdict, "what is learnt can be read again"
    assert "Let me know" not in feedback and "corrected steps" not in feedback


@pytest.mark.parametrize(
    "text",
    [
        "Verdict: correct or incorrect",
        "Verdict: correct/incorrect",
        'I end with "Verdict: correct" or "Verdict: incorrect".',
        "Verdict: partially correct",
        "Verdict: correct, but the last step is missing",
        "Verdict: the method is correct and the result incorrect",
        "Verdict: correct in step 1, incorrect in step 2",
        "Verdict: incorrect\nI do it again: 15.\nVerdict: correct",
        "Verdict: correctly",
        "Verdict: Correct the sign in step 2.",
        "Verdict: not incorrect",
        "Verdict: in",
        "Verdict:",
        "Step 2 is incorrect",
        "The first step is correct, the second one I do again: 15.",
        "",
        " \n ",
        "{",
    ],
)
def test_no_verdict_or_two(text: str) -> None:
    assert read_verdict(said(text), WORDS) is None


def test_what_follows_a_verdict_is_not_learnt_and_one_said_twice_is_said_once() -> None:
    goes_on = f"{STEP}\nVerdict: incorrect\n\nTask:\nAnother one\n\nStep 1: 3.\nVerdict: incorrect"
    assert with_last_line(said(goes_on), False, WORDS).text == f"{STEP}\nVerdict: incorrect"
    framed = f"The verdict is incorrect.\n{STEP}\nVerdict: incorrect"
    assert with_last_line(said(framed), False, WORDS).text == framed


def test_a_verdict_that_was_cut_off_is_none() -> None:
    for how in ("length", "max_tokens", "content_filter"):  # by any server's name
        assert read_verdict(said("Verdict: correct", how), WORDS) is None


def test_other_words() -> None:
    words = ("acceptable", "needs work")
    assert read_verdict(said("Too long.\n**Verdict:** Needs work, it is too long."), words) is False
    assert read_verdict(said("Verdict: acceptable"), words) is True
    assert read_verdict(said("Verdict: not acceptable"), words) is False
    assert read_verdict(said("Verdict: correct"), words) is None


@given(st.text(), st.sampled_from([("correct", "incorrect"), ("a+b", "(")]))
def test_any_text_is_read_without_an_error(text: str, words: tuple[str, str]) -> None:
    verdict = read_verdict(said(text), words)
    if verdict is not None:
        assert read_verdict(with_last_line(said(text), verdict, words), words) is verdict


@pytest.mark.parametrize(
    "text", ["verdict " * 40_000, "verdict: is the " * 20_000, "so " * 60_000, "- " * 90_000]
)
def test_it_takes_linear_time(text: str) -> None:
    start = time.process_time()
    read_verdict(said(text), WORDS)
    assert time.process_time() - start < 3
