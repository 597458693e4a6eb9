"""ReGenesis, chain by chain: nothing cut off is used on, paths stand alone, and end as the question asks."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.engines.base import Completion, Request, Sampling
from pipeline.prompts import SHIPPED
from pipeline.rows import Dropped, Kept, Row
from pipeline.runner.llm import LLM
from stages.methods.regenesis.method import ReGenesis
from stages.steps.mentions import mention
from stages.steps.solved import ANSWERS
from stages.steps.verifiers import scorer
from tests.conftest import tiny_recipe

TASK = Row(
    "t", {"task_id": "t", "question": "How many are 40 and 51?", "answer": "91", "answer_type": "number"}
)
GOOD = {
    "adapt": "Look at the tens first.",
    "structure": "1. Add the tens.\n2. Add the ones.",
    "execute": "90 + 1.\nAnswer: 91",
}
Said = str | tuple[str, str] | Callable[[Request], str]


def method(recipe: dict[str, Any] | None = None, **options: Any) -> ReGenesis:
    return ReGenesis(
        tiny_recipe(method={"name": "regenesis", "raw_per_question": 1, **options}, **(recipe or {}))
    )


async def chains(
    self_: ReGenesis, task: Row = TASK, **said: Said
) -> tuple[list[Row | Dropped], list[Request]]:
    """Generate and critique; each reply is a text, or a text with its finish reason."""
    asked: list[Request] = []

    async def send(request: Request) -> list[Completion]:
        asked.append(request)
        reply = {**GOOD, **said}[request.step.rsplit("/", 1)[1].removeprefix("hinted_")]
        text, finish = reply if isinstance(reply, tuple) else (reply, "stop")
        return [Completion(text(request) if callable(text) else text, finish, 9, 48)] * request.n

    llm = LLM(send, task.id, "m@1", Sampling(max_tokens=50), 1)
    made = await self_.generate(task, llm)
    assert isinstance(made, Kept)
    outcomes = [await self_.critique(row, llm) for row in made.rows]
    return [o.rows[0] if isinstance(o, Kept) else o for o in outcomes], asked


@pytest.mark.parametrize(
    ("step", "reason", "requests"), [("adapt", "guideline_cut_off", 1), ("structure", "structure_cut_off", 2)]
)
@pytest.mark.parametrize("finish", ["length", "max_tokens", "content_filter"])
async def test_a_text_that_was_cut_off_is_not_used_on(
    step: str, reason: str, requests: int, finish: str
) -> None:
    [dropped], asked = await chains(method(), **{step: ("Look at the", finish)})
    assert isinstance(dropped, Dropped) and dropped.reason == reason and len(asked) == requests
    assert dropped.raw == "Look at the"
    assert dropped.detail == f"ended by {finish} after 48 tokens: raise method.sampling.{step}.max_tokens"


async def test_a_selection_that_was_cut_off_starts_no_chain() -> None:
    found, asked = await chains(
        method(n_selected=2, raw_per_question=None, use_raw=False), select=("1. Th", "length")
    )
    assert [o.reason for o in found] == ["guideline_cut_off"] * 2 and len(asked) == 1
    assert "method.sampling.select.max_tokens" in found[0].detail


async def test_a_path_that_was_cut_off_is_left_to_the_filter() -> None:
    [row], _ = await chains(method(), execute=("40 and 51 are", "length"))
    assert isinstance(row, Row) and row.payload["finish_reason"] == "length"


@pytest.mark.parametrize(
    "phrase", ["Following the plan, ", "It is as the guideline suggests, ", "Step 1 of the plan: "]
)
async def test_a_path_that_mentions_its_plan_is_dropped(phrase: str) -> None:
    [dropped], _ = await chains(method(), execute=f"{phrase}40 + 51 is 91.\nAnswer: 91")
    assert isinstance(dropped, Dropped) and dropped.reason == "mentions_plan"
    assert any(noun in dropped.detail for noun in ("plan", "guideline"))
    about = Row("p", {**TASK.payload, "question": "By the plan and its guideline, how many are 40 and 51?"})
    [kept], _ = await chains(method(), about, execute=f"{phrase}40 + 51 is 91.\nAnswer: 91")
    assert isinstance(kept, Row), "the question is about a plan"


async def test_a_hinted_path_must_not_mention_the_given_answer() -> None:
    def path(request: Request) -> str:
        return "It matches the given answer.\nAnswer: 91" if "hinted" in request.step else "Answer: 90"

    found, _ = await chains(method(hinted_chains=1), select="Add.", execute=path)
    assert [getattr(o, "reason", None) for o in found] == [None, "mentions_hint"]


@pytest.mark.parametrize(
    ("prompt", "asked_for", "text"),
    [
        ("solve", "within \\boxed{}.", "\\boxed{91}"),
        ("short", 'End with "Answer: X".', "\\boxed{91}\nAnswer: 91"),
    ],
)
async def test_a_path_ends_as_the_plain_question_asks(prompt: str, asked_for: str, text: str) -> None:
    self_ = method({"prompts": {"direct/solve": SHIPPED.source(f"direct/{prompt}")}})
    [row], asked = await chains(self_, execute="\\boxed{91}")
    said = [" ".join(m["content"] for m in request.messages) for request in asked]
    assert [asked_for in s for s in said] == [False, False, True]
    assert isinstance(row, Row) and row.payload["text"] == text
    [row], _ = await chains(method(mark_answers=True), execute="\\boxed{91}")
    assert isinstance(row, Row) and row.payload["text"] == "\\boxed{91}\nAnswer: 91"


async def test_the_preset_samples_as_the_paper_and_what_is_set_beside_it_goes_first() -> None:
    paper = method(preset="paper", sampling={"adapt": {"max_tokens": 48}})
    _, asked = await chains(paper)
    assert [(r.sampling.temperature, r.sampling.max_tokens) for r in asked] == [
        (0.85, 48),
        (0.85, 2048),
        (0.85, 2048),
    ]
    _, asked = await chains(method())
    assert {r.sampling.max_tokens for r in asked} == {50}, "without a preset the recipe's sampling"
    old = {
        step: {"temperature": None, "max_tokens": None}
        for step in ("select", "adapt", "structure", "execute")
    }
    _, asked = await chains(
        method(preset="paper", sampling=old)
    )  # as the run.yaml of an older version has it
    assert {r.sampling.max_tokens for r in asked} == {50}


async def test_chains_that_gave_the_answer_away_do_not_count_as_unsolved() -> None:
    def leaks_once(request: Request) -> str:
        return "We get 91." if request.sample_index == 0 else GOOD["adapt"]

    self_ = method(
        skip_solved=True,
        raw_per_question=None,
        guidelines={0: G, 1: {**G, "text": "b"}, 2: {**G, "text": "c"}},
    )
    found, _ = await chains(self_, adapt=leaks_once)
    assert [getattr(o, "reason", None) for o in found] == ["answer_leak_in_guideline", None, None]
    assert {row.payload[ANSWERS] for row in found if isinstance(row, Row)} == {2}


G = {"type": "procedure", "text": "a"}


BAKER = Row(
    "b",
    {
        "task_id": "b",
        "question": "A baker packs 24 rolls into bags of 4 and sells a bag for 2 euros. What does he earn?",
        "answer": "12",
        "answer_type": "number",
    },
)


@pytest.mark.parametrize(
    "structure",
    [
        "1. Find the number of bags.\n2. Find the price of all bags.",
        "**Step 1:** Find the number of bags.\n**Step 2:** Multiply by the price of a bag.",
        "### Plan\n1. **Bags**: Divide the rolls by those of a bag.\n2. **Earnings**: Multiply by 2 euros.",
        '```json\n{"steps": ["Find the bags", "Find the earnings"]}\n```',
        "Sure! Here is a plan:\n\n1. Total rolls: 24\n2. Rolls in a bag: 4\n3. Bags = rolls / rolls in a bag",
        "1) Number of bags = 24 / 4\n2) Earnings = number of bags * 2",
        "Let x be the number of bags; x = 24/4. The total is 2x.",
        "10. Find the bags.\n11. Find the price.\n12. Check.",
        "Step 11: Find the bags.\nStep 12: Find the price, then state the total.",
        "1. Find how many bags there are.\n2. The final answer is the total: **final answer in euros**.",
        "The answer is the product of bags and price. Answer: [your answer]",
        "1. Divide.\n2. Multiply.\n3. Put it in \\boxed{answer}.",
    ],
)
async def test_plans_in_the_forms_of_chat_models_give_nothing_away(structure: str) -> None:
    [row], _ = await chains(method(), BAKER, structure=structure)
    assert isinstance(row, Row) and row.payload["leak_check"] == "passed", row


STEPS = "1. **Bags**: 24 / 4 = 6\n2. **Earnings**: 6 * 2 = 12"


@pytest.mark.parametrize(
    "path",
    [
        f"Let's solve it step by step.\n\n{STEPS}\n\nThe final answer is \\boxed{{12}}.",
        f"Sure! Following the plan:\n\n{STEPS}\n\\[\\boxed{{12}}\\]",
        f"Based on the notes, the solution is:\n\n{STEPS}\n\n**Final Answer:** \\boxed{{12\\text{{ €}}}}",
        f"## Solution according to the plan\n\n{STEPS}\n\nHe earns $\\boxed{{\\$12}}$.",
        f"{STEPS}\n\n### Final Answer\n\\(\\boxed{{12}}\\) euros",
        f"Facts of the question: 24 rolls, bags of 4.\n{STEPS}\n\\[ \\boxed{{12.00}} \\]",
        f"{STEPS}\n\n**Answer:** 12 euros",
        f"{STEPS}\nFinal answer: 12",
        f"{STEPS}\n\\boxed{{6 * 2 = 12}}",
    ],
)
async def test_paths_in_the_forms_of_chat_models_are_kept_and_stand_alone(path: str) -> None:
    [row], _ = await chains(method(), BAKER, execute=path)
    assert isinstance(row, Row), row
    text = row.payload["text"]
    assert STEPS in text and not mention("plan", text) and scorer("ground_truth")(row.payload).correct


async def test_a_path_that_refers_to_the_plan_within_its_steps_is_dropped() -> None:
    [dropped], _ = await chains(
        method(), BAKER, execute=f"As the plan says, we divide.\n{STEPS}\n\\boxed{{12}}"
    )
    assert isinstance(dropped, Dropped) and dropped.reason == "mentions_plan"
