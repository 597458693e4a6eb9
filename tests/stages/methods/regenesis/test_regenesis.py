"""ReGenesis through the real runner, on the scripted engine: its chains, its checks, and the faults of the released code (1.9)."""

import asyncio
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.config import Recipe
from pipeline.errors import DataError, StaleError
from pipeline.lineage import trace
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.methods.regenesis import guidelines
from stages.reports.comparison import compare
from stages.reports.table import rounds_table
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.engines.server import LocalServer
from tests.jobs.conftest import selfloop
from tests.stages.methods.regenesis.answers import BOOLEANS, CHOICES, NUMBERS, Case
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]

Rows = list[dict[str, Any]]
SUMS = [{"question": f"What is {100 + i} + {i % 7 + 1}?", "answer": 101 + i + i % 7} for i in range(40)]


def write(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe_in(
    folder: Path,
    model: Path,
    script: str,
    rows: Rows = SUMS,
    method: dict[str, Any] | None = None,
    **changes: Any,
) -> Recipe:
    settings: dict[str, Any] = {
        "rounds": 1,
        "model": {"base": str(model)},
        "engine": {"kind": "scripted", "answers": f"tests.stages.methods.regenesis.answers:{script}"},
        "tasks": {"source": "jsonl", "path": write(folder / "tasks.jsonl", rows)},
        "held_out": {"count": 1},
        "method": {"name": "regenesis", "raw_per_question": 1, **(method or {})},
    }
    return tiny_recipe(**{**settings, **changes})


async def make(run: RunDir, recipe: Recipe, *stages: str, publish: bool = False) -> Loop:
    """Run the stages of round 1, in this process's Ray."""
    loop = Loop(run, run.freeze(recipe))
    freeze(run, recipe)
    for name in stages or STAGES:
        await loop.stage(1, name)
    if publish:
        await loop.publish(1)
    return loop


def payloads(run: RunDir, stage: str) -> Rows:
    return [row.payload for row in run.rows(run.stage(1, stage))]


def dropped(run: RunDir, stage: str) -> list[tuple[str, dict[str, Any]]]:
    return [(r["reason"], json.loads(r["payload"])) for r in run.rejects(run.stage(1, stage), "dropped")]


def asked(run: RunDir) -> Rows:
    """The records of the request log of generate."""
    return list(request_log.records(f"{run.stage(1, 'generate')}/requests"))


# --- One run of the whole loop: selections, a draw of raw guidelines, hints, and evaluation on further sets.


ASKS = "Please reason step by step, and put your final answer within \\boxed{}."
SAMPLING = {"adapt": {"temperature": 0.3, "max_tokens": 40}, "execute": {"max_tokens": 99}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    """A run of one round from the base model, without demonstrations."""
    folder = tmp_path_factory.mktemp("regenesis")
    run = RunDir(folder / "run")
    sets = {
        "far": {
            "source": "jsonl",
            "path": write(
                folder / "far.jsonl",
                [{"question": f"What is {i} + 1000?", "answer": 1000 + i} for i in range(20)],
            ),
        },
        "near": {"source": "jsonl", "path": write(folder / "near.jsonl", SUMS[:10])},
        "gym": {
            "source": "reasoning_gym",
            "dataset": "chain_sum",
            "limit": 12,
            "options": {"min_terms": 2, "max_terms": 2},
        },
    }
    recipe = recipe_in(
        folder,
        tiny_model,
        "chains",
        method={
            "n_selected": 2,
            "raw_per_question": 3,
            "hinted_chains": 2,
            "keep_per_question": 2,
            "sampling": SAMPLING,
        },
        sampling={"temperature": 0.85, "max_tokens": 50},
        held_out={"count": 10},
        train={"max_steps": 1, "batch_size": 2, "max_length": 256},
        evaluate={
            "bootstrap": 100,
            "sets": sets,
            "engine": {"kind": "scripted", "answers": "tests.scripted_answers:sums"},
        },
    )
    asyncio.run(Loop(run, run.freeze(recipe)).iterate(1))
    return run


def test_every_chain_is_a_row_and_none_is_lost(finished: RunDir) -> None:
    for stage in (*STAGES, "publish"):
        finished.manifest(finished.stage(1, stage)).check()
    made = Counter(row["chain"].split(":")[0] for row in payloads(finished, "generate"))
    questions = finished.manifest(finished.tasks("train")).rows_out
    assert (
        made["selected"] == 2 * questions
        and made["raw"] == 3 * questions
        and 0 < made["hinted"] < 2 * questions
    )


def test_fault_15_no_request_is_wasted(finished: RunDir) -> None:
    """Selections and hinted selections are one request each; a chain costs three, for nothing is summarised or judged."""
    steps = Counter(r["step"].split("/")[1] for r in asked(finished))
    chains = Counter(row["hinted"] for row in payloads(finished, "generate"))
    assert steps["adapt"] == steps["structure"] == steps["execute"] == chains[False]
    assert steps["hinted_adapt"] == steps["hinted_structure"] == steps["hinted_execute"] == chains[True]
    assert steps["select"] == finished.manifest(finished.tasks("train")).rows_out + chains[True] // 2
    assert set(steps) == {
        "select",
        "adapt",
        "structure",
        "execute",
        "hinted_adapt",
        "hinted_structure",
        "hinted_execute",
    }


def test_no_ground_truth_in_any_unhinted_prompt(finished: RunDir) -> None:
    tasks = {row.id: row.payload for row in finished.rows(finished.tasks("train"))}
    seen = Counter()
    for record in asked(finished):
        text = " ".join(m["content"] for m in record["messages"])
        task = tasks[record["row"]]
        assert task["question"] in text
        told = task["answer"] in re.findall(r"\d+", text.replace(task["question"], ""))
        hinted = record["step"].startswith("regenesis/hinted_")
        assert told == hinted, record
        seen[hinted] += 1
    assert seen[False] > 100 and seen[True] > 10


def test_only_questions_without_an_accepted_path_are_hinted_and_it_shows_in_the_dataset(
    finished: RunDir,
) -> None:
    accepted = {True: set(), False: set()}
    for row in payloads(finished, "verify"):
        accepted[row["hinted"]].add(row["task_id"])
    hinted = {row["task_id"] for row in payloads(finished, "generate") if row["hinted"]}
    assert hinted and not hinted & accepted[False] and hinted == accepted[True]
    assert hinted | accepted[False] == {row.id for row in finished.rows(finished.tasks("train"))}, (
        "what generate foresees is what verify finds"
    )
    dataset = load_from_disk(finished.dataset("sft", 1))["train"]
    by_task = {(r["task_id"], r["src_hinted"]) for r in dataset}
    assert by_task == {(t, True) for t in hinted} | {(t, False) for t in accepted[False]}, (
        "fault 11: both kinds are published, each marked"
    )
    share = sum(dataset["src_hinted"])
    assert (
        f"Hinted examples (the answer was shown while the path was written): {share} of {len(dataset)}"
        in card(finished)
    )
    assert max(Counter(dataset["task_id"]).values()) == 2


def card(run: RunDir) -> str:
    return Path(run.dataset("sft", 1), "README.md").read_text()


def test_examples_are_question_and_path_alone(finished: RunDir) -> None:
    rows = {row.id: row.payload for row in finished.rows(finished.stage(1, "publish"))}
    for example in load_from_disk(finished.dataset("sft", 1))["train"]:
        row = rows[example["row_id"]]
        whole = " ".join(m["content"] for m in [*example["prompt"], *example["completion"]])
        assert example["completion"] == [{"role": "assistant", "content": row["text"]}]
        assert not [name for name in ("guideline", "adapted", "structure") if row[name] in whole]
        assert example["prompt"][0]["content"].endswith(ASKS) and re.search(
            r"^Answer: \d+$", row["text"], re.MULTILINE
        )
    evaluated = next(request_log.records(f"{finished.stage('base', 'evaluate')}/requests"))["messages"]
    assert [m["role"] for m in evaluated] == ["user"] and evaluated[0]["content"].endswith(ASKS), (
        "evaluation asks as training does"
    )


def test_selections_are_of_the_given_guidelines_and_the_draw_differs_by_question(finished: RunDir) -> None:
    known = {g.text for g in guidelines.read_guidelines(guidelines.DEFAULT).values()}
    rows = payloads(finished, "generate")
    assert {row["guideline"] for row in rows} <= known and {
        row["guideline_type"] for row in rows if "selected" in row["chain"]
    } == {"selected"}
    draws: dict[str, set[str]] = {}
    for row in rows:
        if row["chain"].startswith("raw:"):
            draws.setdefault(row["task_id"], set()).add(row["chain"])
    assert {len(d) for d in draws.values()} == {3} and len({frozenset(d) for d in draws.values()}) > 10
    offered = next(r for r in asked(finished) if r["step"] == "regenesis/select" and r["sample_index"])[
        "messages"
    ][-1]["content"]
    assert "so far" not in offered and "25." not in offered, (
        "a hinted chain has no earlier solution to revise"
    )


def test_each_step_has_its_own_sampling(finished: RunDir) -> None:
    used = {
        r["step"].replace("hinted_", ""): (r["sampling"]["temperature"], r["sampling"]["max_tokens"])
        for r in asked(finished)
    }
    assert used == {
        "regenesis/select": (0.85, 50),
        "regenesis/adapt": (0.3, 40),
        "regenesis/structure": (0.85, 50),
        "regenesis/execute": (0.85, 99),
    }
    assert all(
        json.loads(s)["max_tokens"] == 99
        for s in load_from_disk(finished.dataset("sft", 1))["train"]["src_sampling"]
    )


def test_trace_shows_the_whole_chain(finished: RunDir, selfloop: Any) -> None:
    published = load_from_disk(finished.dataset("sft", 1))["train"][0]["row_id"]
    *_, last = trace(finished, published)
    row = last.payload
    assert [link.stage for link in trace(finished, published)] == [
        "tasks/train",
        "generate",
        "critique",
        "filter",
        "verify",
    ]
    shown = selfloop("trace", "--run", finished.root, published, "--full")
    assert shown.status == 0, shown.text
    wanted = [
        row["question"],
        row["guideline"],
        row["adapted"],
        row["structure"].split("\n")[1],
        row["text"].split("\n")[1],
        "right, extracted",
        "published as",
    ]
    below = shown.text[shown.text.index(f"{last.parents[0][:0]}made by generate") :]
    places = [shown.text.index(wanted[0]), *(below.index(text) for text in wanted[1:])]
    assert all(a < b for a, b in pairwise(places[1:])), shown.text
    short = selfloop("trace", "--run", finished.root, published).text
    ids = {r["key"] for r in asked(finished) if r["row"] == row["task_id"]}
    own = short.count("generate, round 1: asked")
    assert 3 <= own < len(ids) and f"{len(ids) - own} other requests of this row" in short
    assert row["adapted"] in short and row["structure"].split("\n")[1] in short


def test_further_sets_are_frozen_evaluated_and_shown(finished: RunDir, selfloop: Any) -> None:
    for round_ in ("base", 1):
        found = json.loads(Path(finished.evaluation(round_)).read_text())["sets"]
        assert {name: m["n"] for name, m in found.items()} == {"far": 20, "near": 10, "gym": 12}
        assert all(
            0 <= m["greedy"]["low"] <= m["greedy"]["mean"] <= m["greedy"]["high"] <= 1 for m in found.values()
        )
        assert 0 < found["far"]["greedy"]["mean"] < 1
    assert (
        found["far"]["against_base"]["difference"]["mean"]
        == found["far"]["against_previous"]["difference"]["mean"]
    )
    assert all(row.payload["greedy"]["text"] for row in finished.rows(finished.stage(1, "evaluate-gym")))
    facts = rounds_table(finished)
    assert [f["round"] for f in facts] == ["base", 1] and set(facts[1]["sets"]) == {"far", "near", "gym"}
    assert facts[1]["tokens"] == sum(
        finished.manifest(finished.stage(1, s)).tokens.completion
        for s in ("evaluate", "evaluate-far", "evaluate-near", "evaluate-gym")
    )
    shown = selfloop("inspect", "--run", finished.root).text
    assert (
        "far, n = 20" in shown
        and "gym, n = 12" in shown
        and "20 of far to evaluate with" in shown
        and "evaluate-near" in shown
    )
    one = selfloop("inspect", "--run", finished.root, "--round", "1", "--stage", "evaluate-far")
    assert one.status == 0 and "on 20 questions" in one.text, one.text
    assert "sets/gym: 12" in selfloop("inspect", "--run", finished.root, "--stage", "tasks").text
    arm = compare([finished])[0]
    assert arm["first"] == "base model" and len(arm["accuracy"]) == 2 and arm["sets"]["gym"]["n"] == 12
    low, high = (arm["sets"]["far"]["last_minus_round_0"][k] for k in ("low", "high"))
    assert low <= arm["sets"]["far"]["last_minus_round_0"]["mean"] <= high
    question = next(finished.rows(finished.tasks("sets/far"))).id
    assert next(link.stage for link in trace(finished, question, 1)) == "tasks/sets/far"


def test_questions_of_further_sets_are_neither_learnt_from_nor_published(
    finished: RunDir, tmp_path: Path
) -> None:
    near = {row.payload["question"] for row in finished.rows(finished.tasks("sets/near"))}
    learnt = {row.payload["question"] for row in finished.rows(finished.tasks("train"))}
    assert len(near) == 10 and not near & learnt
    assert (
        finished.manifest(finished.path("tasks")).rows_dropped["equal_to_evaluation_set"] + len(learnt) == 30
    )
    manifest = finished.manifest(finished.stage(1, "publish"))
    assert {"held_out", "sets_far", "sets_near", "sets_gym"} <= {step.name for step in manifest.steps}
    recipe = finished.recipe()
    more = recipe.evaluate.model_copy(
        update={"sets": {**recipe.evaluate.sets, "new": recipe.evaluate.sets["far"]}}
    )
    fewer = recipe.evaluate.model_copy(
        update={
            "sets": {
                **recipe.evaluate.sets,
                "far": recipe.evaluate.sets["far"].model_copy(update={"limit": 3}),
            }
        }
    )
    with pytest.raises(StaleError, match="evaluate.sets.far changed after tasks were read"):
        freeze(finished, recipe.model_copy(update={"evaluate": fewer}))
    with pytest.raises(StaleError, match="evaluate.sets.new changed after tasks were read"):
        freeze(finished, recipe.model_copy(update={"evaluate": more}))


# --- The faults of the released code.


def kinds() -> dict[str, tuple[Case, ...]]:
    return {"number": NUMBERS, "choice": CHOICES, "boolean": BOOLEANS}


@pytest.mark.parametrize("kind", kinds())
async def test_faults_1_to_10_and_18(kind: str, tmp_path: Path, in_process: None, tiny_model: Path) -> None:
    """Each case's path is accepted or refused for the reason it has to be; what is accepted is published byte for byte."""
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


# --- Leaks.


@pytest.fixture
def own(tmp_path: Path) -> str:
    """Five guidelines of the user's own."""
    return write(
        tmp_path / "own.jsonl",
        [{"index": i, "type": "own", "text": f"Do as kind {i} does."} for i in range(5)],
    )


async def test_chains_that_gave_the_answer_away_are_dropped_and_counted(
    tmp_path: Path, own: str, tiny_model: Path, in_process: None
) -> None:
    run = RunDir(tmp_path / "run")
    recipe = recipe_in(tmp_path, tiny_model, "leaky", method={"guidelines": own, "raw_per_question": None})
    await make(run, recipe, publish=True)
    manifest = run.manifest(run.stage(1, "critique"))
    assert manifest.rows_dropped == {
        "answer_leak_in_guideline": 39,
        "answer_leak_in_structure": 39,
        "empty_guideline": 39,
        "empty_structure": 39,
    }
    assert {(reason, p["chain"]) for reason, p in dropped(run, "critique")} == {
        ("answer_leak_in_guideline", "raw:1"),
        ("answer_leak_in_structure", "raw:2"),
        ("empty_guideline", "raw:3"),
        ("empty_structure", "raw:4"),
    }
    assert {p["chain"] for p in payloads(run, "verify")} == {"raw:0"}
    assert Counter(r["step"] for r in asked(run)) == {
        "regenesis/adapt": 5 * 39,
        "regenesis/structure": 4 * 39,
        "regenesis/execute": 3 * 39,
    }
    leaks = [r for r in run.rejects(run.stage(1, "critique"), "dropped") if "leak" in r["reason"]]
    assert all(re.match(r"(announced|contained): '\d+'", r["detail"]) and r["raw"] for r in leaks)
    assert "Check that guidelines and structures do not contain the answer: on" in card(run)
    frozen = run.recipe().method["guidelines"]
    Path(own).unlink()  # what the run was started with is in the run
    assert (
        run.recipe().method["guidelines"] == frozen
        and [g["text"] for g in frozen.values()][3] == "Do as kind 3 does."
    )


async def test_without_ground_truth_the_check_is_off_and_the_card_says_so(
    tmp_path: Path, own: str, tiny_model: Path, in_process: None
) -> None:
    """By majority vote. The vote does not look at a truth that is there, so the check must not either."""
    run = RunDir(tmp_path / "run")
    recipe = recipe_in(
        tmp_path,
        tiny_model,
        "leaky",
        method={"guidelines": own, "raw_per_question": None, "keep_per_question": 5},
        verifier="majority_vote",
    )
    await make(run, recipe, publish=True)
    assert run.manifest(run.stage(1, "critique")).rows_dropped == {
        "empty_guideline": 39,
        "empty_structure": 39,
    }
    rows = run.manifest(run.stage(1, "publish")).rows_out
    assert {p["leak_check"] for p in payloads(run, "critique")} == {"off"} and rows > 0
    assert (
        f"do not contain the answer: off for {rows} of {rows}: no ground truth, or majority_vote may not see it"
        in card(run)
    )


# --- The same rows, whatever happens on the way.


async def test_equal_prompts_get_the_same_samples_however_long_each_takes(
    tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    found = []
    for name, more in (("even", {}), ("uneven", {"latency": 0.05, "jitter": 1})):
        engine = {
            "kind": "scripted",
            "answers": "tests.stages.methods.regenesis.answers:same_selection",
            **more,
        }
        run = RunDir(tmp_path / name)
        await make(
            run,
            recipe_in(
                tmp_path,
                tiny_model,
                "",
                SUMS[:6],
                method={"n_selected": 4, "raw_per_question": 1},
                engine=engine,
            ),
            "generate",
        )
        found.append({row.id: row.payload for row in run.rows(run.stage(1, "generate"))})
    assert found[0] == found[1] and len(found[0]) == 25
    chains = [p for p in found[0].values() if p["chain"].startswith("selected")]
    assert len({p["adapted"] for p in chains}) == len(chains) == 20, "equal prompts, but samples of their own"


async def test_a_killed_generate_goes_on_in_the_middle_of_its_chains(
    tmp_path: Path, tiny_model: Path, on_ray: None
) -> None:
    """Its worker is killed when the first paths are asked for; requests that were finished then are not made again."""
    rows = [{**row, "question": f"{row['question']} [{tmp_path}/flag]"} for row in SUMS[:12]]
    run, undisturbed = RunDir(tmp_path / "run"), RunDir(tmp_path / "undisturbed")
    recipe = recipe_in(tmp_path, tiny_model, "dies_once", rows, method={"raw_per_question": 4})
    await make(run, recipe, "generate")
    manifest = run.manifest(run.stage(1, "generate"))
    log = Counter(r["key"] for r in asked(run))
    assert (tmp_path / "flag").exists() and manifest.requests.from_log > 0
    assert (
        set(log.values()) == {1}
        and len(log) == 11 * 4 * 3 == manifest.requests.from_log + manifest.requests.sent
    )
    await make(undisturbed, recipe, "generate")
    assert {r.id: r.payload for r in run.rows(run.stage(1, "generate"))} == {
        r.id: r.payload for r in undisturbed.rows(undisturbed.stage(1, "generate"))
    }


async def test_the_same_recipe_on_an_openai_compatible_endpoint(
    tmp_path: Path, tiny_model: Path, in_process: None
) -> None:
    async with LocalServer() as server:
        engine = {"kind": "openai", "base_url": server.url, "model": "remote"}
        recipe = recipe_in(
            tmp_path,
            tiny_model,
            "",
            SUMS[:9],
            method={"n_selected": 2, "raw_per_question": 2, "hinted_chains": 2},
            engine=engine,
        )
        run = RunDir(tmp_path / "run")
        await make(run, recipe)
        assert server.requests == 8 * (1 + 3 * 4) + 8 * (1 + 3 * 2), (
            "nobody there can add, so that every question is hinted"
        )
    rows = payloads(run, "generate")
    assert len(rows) == 8 * 6 and all(
        row["adapted"] and row["structure"] and "Answer: " in row["text"] for row in rows
    )
    assert {"wrong_answer"} >= set(run.manifest(run.stage(1, "verify")).rows_dropped)


async def test_direct_with_a_budget_of_tokens(tmp_path: Path, tiny_model: Path, in_process: None) -> None:
    """Every question costs at least the budget, and at most one answer more; without a budget nothing changes."""
    run = RunDir(tmp_path / "run")
    engine = {"kind": "scripted", "tokens": 7}
    settings = recipe_in(tmp_path, tiny_model, "chains").model_dump(mode="json")
    await make(
        run,
        tiny_recipe(
            **{
                **settings,
                "method": {"name": "direct", "samples": 2, "sampled_tokens": 100},
                "engine": engine,
            }
        ),
        "generate",
    )
    manifest = run.manifest(run.stage(1, "generate"))
    assert manifest.rows_out == 15 * 39 and manifest.tokens.completion == 39 * 105
