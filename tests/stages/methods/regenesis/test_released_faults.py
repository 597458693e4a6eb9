"""The faults of the released code (1.9), each by what a run does instead."""

import re
from pathlib import Path

import pytest
from datasets import load_from_disk

from pipeline.errors import DataError
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.stages.methods.regenesis.answers import BOOLEANS, CHOICES, NUMBERS, Case
from tests.stages.methods.regenesis.rounds import SUMS, asked, dropped, make, payloads, recipe_in
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]


def kinds() -> dict[str, tuple[Case, ...]]:
    return {"number": NUMBERS, "choice": CHOICES, "boolean": BOOLEANS}


@pytest.mark.parametrize("kind", kinds())
async def test_faults_1_to_10_and_18(kind: str, tmp_path: Path, in_process: None, tiny_model: Path) -> None:
    """Each case's path is accepted or refused for the reason it has to be.

    What is accepted is published byte for byte.
    """
    cases = kinds()[kind]
    rows = [
        {
            "question": f"Case <{c.name}>. How is it in the U.S.A.?  A. Smith\nasks.",
            "answer": c.truth,
            "choices": c.options,
        }
        for c in cases
    ]
    columns = {"options": "choices"} if kind == "choice" else {}
    recipe = recipe_in(
        tmp_path,
        tiny_model,
        "cases",
        [*rows, {"question": "Held out?", "answer": cases[0].truth, "choices": cases[0].options}],
        filters={"drop_duplicates": False},
        verifier="ground_truth",
        tasks={
            "source": "jsonl",
            "path": str(tmp_path / "tasks.jsonl"),
            "answer_type": kind,
            "columns": columns,
        },
    )
    run = RunDir(tmp_path / "run")
    loop = Loop(run, run.freeze(recipe))
    freeze(run, recipe)
    [held_out] = run.rows(run.tasks("held_out"))
    for name in STAGES:
        await loop.stage(1, name)
    await loop.publish(1)
    known = {f"Case <{c.name}>": c for c in cases}
    found = {re.search("Case <.*?>", p["question"])[0]: reason for reason, p in dropped(run, "verify")}
    found |= {re.search("Case <.*?>", p["question"])[0]: "" for p in payloads(run, "verify")}
    held = re.search("Case <.*?>", held_out.payload["question"])
    assert {k: known[k].reason for k in found} == found and len(found) >= len(cases) - bool(held)
    published = load_from_disk(run.dataset("sft", 1))["train"]
    for example in published:
        user = example["prompt"][-1]["content"]
        case = known[re.search("Case <.*?>", user)[0]]
        assert example["completion"][0]["content"] == case.path
        assert "How is it in the U.S.A.?  A. Smith\nasks." in user
    assert len(published) == sum(not reason for reason in found.values())


async def test_fault_6_an_empty_truth_is_refused_when_it_is_read(
    tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    recipe = recipe_in(tmp_path, tiny_model, "cases", [*SUMS, {"question": "What?", "answer": " "}])
    with pytest.raises(DataError, match=r"tasks.jsonl:41: the answer is empty"):
        freeze(RunDir(tmp_path / "run"), recipe)


async def test_fault_10_a_boxed_answer_gets_the_line_that_the_prompts_ask_for(
    tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    path = "So $\\frac{3}{6}$ of it: \\boxed{\\frac{1}{2}}"
    line = {"mark_answers": True}
    loop = Loop(RunDir(tmp_path / "run"), recipe_in(tmp_path, tiny_model, "cases", method=line))
    marked = loop.method._marked({"text": path, "answer_type": "number"})
    assert marked == {"text": f"{path}\nAnswer: \\frac{{1}}{{2}}"}
    assert loop.method._marked({"text": "Answer: \\boxed{5}", "answer_type": "number"}) == {}
    assert loop.method._marked({"text": "I do not know.", "answer_type": "number"}) == {}
    assert loop.method._marked({"text": "\\boxed{Tuesday}", "answer_type": "number"}) == {
        "text": "\\boxed{Tuesday}\nAnswer: Tuesday"
    }
    gym = Loop(
        RunDir(tmp_path / "gym"),
        recipe_in(tmp_path, tiny_model, "cases", method=line, verifier="task_scorer"),
    )
    mapping = "\\boxed{A=1, B=2}"  # as cryptarithm wants it: a number would be the 2 alone
    assert gym.method._marked({"text": mapping, "answer_type": "number"}) == {
        "text": f"{mapping}\nAnswer: A=1, B=2"
    }


async def test_fault_12_nothing_but_generate_asks_the_model(tmp_path: Path, tiny_model: Path) -> None:
    stages = Loop(
        RunDir(tmp_path / "run"), recipe_in(tmp_path, tiny_model, "chains", method={"hinted_chains": 2})
    ).method.stages()
    assert [name for name in STAGES if stages[name].prompts] == ["generate"]


async def test_fault_17_refused_chains_are_dropped_by_name_and_refused_questions_fail(
    tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    recipe = recipe_in(
        tmp_path,
        tiny_model,
        "chains",
        method={"raw_per_question": 2},
        runner={"max_failed_share": 1.0},
        engine={
            "kind": "scripted",
            "answers": "tests.stages.methods.regenesis.answers:chains",
            "reject_share": 0.25,
            "max_retries": 0,
        },
    )
    run = RunDir(tmp_path / "run")
    await make(run, recipe)
    generate, critique = (run.manifest(run.stage(1, s)) for s in ("generate", "critique"))
    failed = list(run.rejects(run.stage(1, "generate"), "failed"))
    assert (
        generate.rows_failed == {"EngineError": len(failed)}
        and failed
        and "every chain of the question was refused" in failed[0]["detail"]
    )
    assert generate.rows_out == 2 * (39 - len(failed)) == critique.rows_in
    refused = [(reason, p) for reason, p in dropped(run, "critique") if reason == "request_refused"]
    assert critique.rows_dropped == {"request_refused": len(refused)} and refused
    assert all("rejects this request" in p["problem"] and not p["text"] for _, p in refused)
    assert any(p["adapted"] for _, p in refused), "what a chain had when it ended is kept"


@pytest.mark.parametrize("answers", ["refuses_hints", "refuses_selections"])
async def test_refused_hinted_chains_do_not_take_the_others_along(
    answers: str, tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    recipe = recipe_in(tmp_path, tiny_model, answers, method={"raw_per_question": 2, "hinted_chains": 2})
    run = RunDir(tmp_path / "run")
    await make(run, recipe)
    generate = run.manifest(run.stage(1, "generate"))
    rows = payloads(run, "generate")
    hinted = [p for p in rows if p["hinted"]]
    assert generate.rows_failed == {} and hinted and {p["stopped"] for p in hinted} == {"request_refused"}
    assert sum(not p["hinted"] for p in rows) == 2 * generate.rows_done


@pytest.mark.parametrize(("preset", "requests"), [("paper", 3 * 25), ("released-code", 1 + 3 * 45)])
async def test_fault_15_the_presets_cost_what_they_have_to(
    preset: str, requests: int, tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    run = RunDir(tmp_path / "run")
    await make(
        run,
        recipe_in(
            tmp_path, tiny_model, "chains", SUMS[:2], method={"preset": preset, "raw_per_question": None}
        ),
        "generate",
    )
    manifest = run.manifest(run.stage(1, "generate"))
    assert (manifest.requests.sent, manifest.rows_out) == (requests, 25 if preset == "paper" else 45)
    if preset == "released-code":
        assert [r["n"] for r in asked(run) if r["step"] == "regenesis/select"] == [20]
