"""What is planned against what the run then took, method by method, on the scripted engine."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.planning import COLUMNS, number, span
from pipeline.checks.machine import Gpu, Machine
from pipeline.config import Recipe, VllmEngine, build_recipe
from pipeline.engines.base import Completion, Request
from pipeline.engines.scripted import ScriptedClient
from pipeline.estimates import ModelSize, engine_need, model_size, training_need
from pipeline.methods import load_method
from pipeline.prompts import Prompts
from pipeline.round import Round
from pipeline.rows import Kept, Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM
from pipeline.stage import PROPOSE, STAGES, TRAIN, Stage
from pipeline.store import files
from pipeline.training import TrainResult
from stages.methods.direct.method import Direct, DirectOptions
from stages.rounds import evaluation, questions
from stages.rounds.loop import Loop
from stages.rounds.plan import plan
from stages.rounds.planned import Span
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.jobs.conftest import selfloop
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]
pytestmark = pytest.mark.timeout(300)

HERE = Machine(2, False, 16 * 2**30)
METHODS = "tests.stages.methods"


class SilentOptions(DirectOptions):
    name: str = "silent"  # type: ignore[assignment]


class Silent(Direct):
    """A method that does not say what it asks."""

    name = "silent"
    Options = SilentOptions
    work = None  # type: ignore[assignment]


GAME = {"source": "environment", "dataset": f"{METHODS}.agent_r.search.counter:Counter"}


def rows(folder: Path, name: str, given: list[dict[str, Any]], **source: Any) -> dict[str, Any]:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    return {"source": "jsonl", "path": str(folder / f"{name}.jsonl"), **source}


def recipe_of(method: str, folder: Path, model: Path, **changes: Any) -> Recipe:
    """Return a small recipe of a method, with answers that it can use."""
    sums = [{"question": f"What is {i} + {i % 7 + 1}?", "answer": i + i % 7 + 1} for i in range(1000, 1090)]
    script = {
        "direct": "tests.scripted_answers:sums",
        "self": f"{METHODS}.self.answers:skilled",
        "regenesis": f"{METHODS}.regenesis.answers:same_selection",
        "self_lengthen": f"{METHODS}.self_lengthen.answers:writes",
        "entigraph": f"{METHODS}.entigraph.answers:writes",
        "agent_r": f"{METHODS}.agent_r.search.player:play_and_judge",
    }[method]
    settings: dict[str, Any] = {
        "rounds": 1,
        "model": {"base": str(model)},
        "engine": {"kind": "scripted", "answers": script},
        "held_out": {"count": 10},
        "method": {"name": method},
        "evaluate": {"bootstrap": 100},
    }
    if method in ("direct", "self", "regenesis"):
        settings |= {"tasks": rows(folder, "tasks", sums), "questions_per_round": 20}
        settings["evaluate"] = {"bootstrap": 100, "samples": 2, "k": [1]}
    if method == "self":
        new = {"calls": 5, "shown": 4, "wanted": 7, "from_round": 2}
        settings |= {"rounds": 2, "new_questions": True, "method": {"name": method, "new_questions": new}}
    if method == "regenesis":
        settings["method"] |= {"raw_per_question": 2, "n_selected": 1, "hinted_chains": 1}
    if method == "self_lengthen":
        seeds = [{"instruction": f"Tell a story about {a} that the {i}th child told."} for i, a in
                 enumerate(["oaks", "elms", "mice", "owls", "bees", "pigs"] * 2)]  # fmt: skip
        source = rows(folder, "tasks", seeds, columns={"question": "instruction", "answer": None})
        settings |= {"tasks": source | {"answer_type": "text"}, "held_out": {"count": 4}}
        settings["method"] |= {"instructions": 3, "instruction_tries": 3, "draft_tries": 2, "attempts": 2}
        settings["sampling"] = {"max_tokens": 200}
    if method == "entigraph":
        (folder / "docs").mkdir()
        for d in range(3):
            names = [f"{name}{d}" for name in ("Ada", "Loom", "Marseille", "Silver", "Winter")]
            text = " ".join(f"s{d}x{i}" for i in range(60))
            (folder / f"docs/{d}.txt").write_text(f"Weavers {d}\n\nThings: {', '.join(names)}.\n\n{text}.\n")
        asked = [
            {"question": f"What is {k} of Weavers?", "answer": "A", "options": ["a", "b"]} for k in range(4)
        ]
        questions = rows(folder, "asked", asked, answer_type="choice", columns={"options": "options"})
        settings |= {
            "tasks": {"source": "documents", "path": str(folder / "docs"), "columns": {"answer": None}}
        }
        settings |= {"held_out": {"source": questions}, "train": {"kind": "cpt", "max_length": 64}}
        settings["method"] |= {"max_entities": 5, "max_triples": 3, "faithfulness": 0.5}
    if method == "agent_r":
        settings |= {"tasks": {**GAME, "options": {"train": 6, "test": 4}}, "held_out": {}}
        settings["method"] |= {"depth": 5, "simulations": 4, "alpha": [0.5]}
    return tiny_recipe(**{**settings, **changes})


async def go_through(run: RunDir, recipe: Recipe) -> None:
    freeze(run, run.freeze(recipe))
    async with Loop(run, recipe) as loop:
        await loop.evaluate("base")
        for name in STAGES:
            await loop.stage(1, name)


class Player:
    """Runs stages in this process, without Ray, and counts what they ask."""

    def __init__(self, recipe: Recipe) -> None:
        self.engine, self.recipe, self.sent = ScriptedClient(recipe.engine), recipe, 0

    async def send(self, request: Request) -> list[Completion]:
        self.sent += 1
        return await self.engine.generate(request)

    async def play(self, stage: Stage, given: list[Row], round_: int | str) -> tuple[list[Row], int]:
        """Return the rows that a stage passes on, and its requests."""
        self.sent, made = 0, []
        for row in given:
            if stage.row is None:
                made.append(row)
                continue
            llm = LLM(self.send, row.id, "m@1", self.recipe.sampling, round_, Prompts.of(self.recipe))
            outcome = await stage.row(row, llm)
            made += outcome.rows if isinstance(outcome, Kept) else []
        for step in stage.steps.values():
            now, made = made, []
            for row, outcome in step(lambda now=now: iter(now)):  # type: ignore[misc]
                made += [row] if outcome is None else outcome.rows if isinstance(outcome, Kept) else []
        return made, self.sent


def within(value: float, planned: Span) -> bool:
    return round(planned.low) <= value <= round(planned.high)


@pytest.mark.parametrize("method", ["direct", "self", "regenesis", "self_lengthen", "entigraph", "agent_r"])
def test_stages_ask_what_was_planned(tmp_path: Path, tiny_model: Path, method: str) -> None:
    recipe, run = recipe_of(method, tmp_path, tiny_model), RunDir(tmp_path / "run")
    planned = {(line.round, line.stage): line for line in plan(recipe, run, HERE).lines if not line.trains}
    freeze(run, recipe)
    player, made, count = Player(recipe), load_method(recipe), 0

    async def check(round_: int | str, name: str, stage: Stage, given: list[Row]) -> list[Row]:
        out, sent = await player.play(stage, given, round_)
        line = planned[round_, name]
        assert within(len(given), line.rows) and within(sent, line.requests), (line, len(given), sent)
        return out

    async def all_rounds() -> None:
        nonlocal count
        held_out = list(run.rows(run.tasks("held_out")))
        await check("base", "evaluate", evaluation.stage(recipe), held_out)
        for round_ in range(1, recipe.rounds + 1):
            passed = list(questions.drawn(Round(run, round_, recipe)).rows())
            for name in STAGES:
                passed = await check(round_, name, made.stages()[name], passed)
                count += len(passed)
            await check(round_, "evaluate", evaluation.stage(recipe), held_out)

    asyncio.run(all_rounds())
    assert count > 10
    exact = {"direct": {"generate", "evaluate"}, "self": {"generate"}, "regenesis": {"evaluate"}}
    for (round_, name), line in planned.items():
        if name in exact.get(method, ()) and (round_, name) != (2, "generate"):
            assert line.requests.low == line.requests.high > 0


def test_a_run_takes_what_was_planned(in_process: None, tmp_path: Path, tiny_model: Path) -> None:
    recipe, run = recipe_of("direct", tmp_path, tiny_model), RunDir(tmp_path / "run")
    before = plan(recipe, run, HERE)
    assert not Path(run.root).exists()  # planning starts nothing
    asyncio.run(go_through(run, recipe))
    compared = 0
    for line in before.lines:
        if manifest := run.manifest(run.stage(line.round, line.stage)):
            assert within(manifest.rows_in, line.rows) and within(manifest.requests.sent, line.requests), line
            compared += 1
    assert compared == 5
    for line in plan(recipe, run, HERE).lines:  # now with what the run has measured
        manifest = run.manifest(run.stage(line.round, line.stage))
        assert line.done == (manifest is not None)
        if manifest is not None:
            assert round(line.completion.low) == round(line.completion.high) == manifest.tokens.completion
        elif line.stage == "evaluate":
            tokens = run.manifest(run.stage("base", "evaluate")).tokens
            assert round(line.completion.high) == tokens.completion and line.seconds is not None


def test_proposals_are_planned(tmp_path: Path, tiny_model: Path) -> None:
    lines = plan(recipe_of("self", tmp_path, tiny_model), RunDir(tmp_path / "run"), HERE).lines
    [proposed] = [line for line in lines if line.stage == PROPOSE]
    assert proposed.round == 2 and proposed.requests == Span(5, 5)
    [asked] = [line for line in lines if (line.round, line.stage) == (2, "generate")]
    assert asked.rows == Span(20, 20 + 5 * 7)


def test_a_sample_measures_and_leaves_nothing(in_process: None, tmp_path: Path, tiny_model: Path) -> None:
    recipe = recipe_of("direct", tmp_path, tiny_model, evaluate={"max_tokens": 9, "bootstrap": 100})
    found = plan(recipe, RunDir(tmp_path / "runs" / "run"), HERE, sample=6)
    assert list((tmp_path / "runs").iterdir()) == []
    lines = {(line.round, line.stage): line for line in found.lines}
    generate, verify = lines[1, "generate"], lines[1, "verify"]
    assert generate.completion == Span(20 * 4 * 16, 20 * 4 * 16)  # the scripted engine's 16 tokens an answer
    assert generate.seconds is not None and verify.rows.low == verify.rows.high == 80
    assert lines[1, "evaluate"].completion == Span(10 * 9, 10 * 9)  # cut at evaluate.max_tokens
    assert any("as the sample measured them" in note for note in found.notes)


def test_a_sample_that_cannot_go_on_says_why(in_process: None, tmp_path: Path, tiny_model: Path) -> None:
    recipe = recipe_of("direct", tmp_path, tiny_model)
    recipe.engine = type(recipe.engine)(kind="scripted", reject_share=1)
    found = plan(recipe, RunDir(tmp_path / "run"), HERE, sample=3)
    assert any(note.startswith("The sample ended early: generate: ") for note in found.notes)


def test_a_method_of_ones_own_is_unknown(tmp_path: Path, tiny_model: Path) -> None:
    settings = recipe_of("direct", tmp_path, tiny_model).model_dump(mode="json")
    settings["method"] = {"name": "tests.stages.rounds.test_plan:Silent"}
    found = plan(build_recipe(settings), RunDir(tmp_path / "run"), HERE)
    assert any(note.startswith("Unknown: generate of method silent") for note in found.notes)
    assert not next(line for line in found.lines if line.stage == "generate").known
    assert next(line for line in found.lines if line.stage == "evaluate").known


def test_accumulated_examples(tmp_path: Path, tiny_model: Path) -> None:
    worked = rows(tmp_path, "worked", [{"question": f"What is {i} - 1?", "answer": i - 1} for i in range(8)])
    common: dict[str, Any] = {"demonstrations": worked, "rounds": 3}
    policies = {"all": 120, "replace": 40, "window:2": 80, "subsample:30": 30}
    for policy, most in policies.items():
        changes = {**common, "accumulate": {"policy": policy, "keep_real": policy == "all"}}
        recipe = recipe_of("direct", tmp_path, tiny_model, **changes)
        trained = [line for line in plan(recipe, RunDir(tmp_path / "run"), HERE).lines if line.trains]
        assert len(trained) == 4 and trained[0].rows == Span(8, 8)
        assert trained[-1].rows.high == most + 8 * (policy == "all")
    recipe = recipe_of(
        "direct", tmp_path, tiny_model, train={"kind": "sft_then_dpo", "max_steps": 5}, rounds=2
    )
    assert [line.stage for line in plan(recipe, RunDir(tmp_path / "r"), HERE).lines if line.trains] == (
        ["train_sft", "train"] * 2
    )


SEVEN = ModelSize(
    "none",
    7_600_000_000,
    {"num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944, "vocab_size": 152_064,
     "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32_768},
)  # fmt: skip


def test_memory_of_a_7b_model_on_gpus() -> None:
    train = tiny_recipe().train
    big, small = (
        Machine(16, True, 2**37, (Gpu("NVIDIA H100", 80 * 2**30),)),
        Machine(8, False, 2**35, (Gpu("NVIDIA L4", 24 * 2**30),)),
    )
    assert 100 < training_need(SEVEN, train, big).total / 2**30 < 150  # 16 bytes a parameter
    lora = train.model_validate({**train.model_dump(), "lora": {"r": 16}})
    assert 14 < training_need(SEVEN, lora, big).total / 2**30 < 60
    assert SEVEN.kv_bytes() == 57_344
    fits = engine_need(SEVEN, VllmEngine(args={"max_model_len": 4096}), small)
    assert 15 < fits.total / 2**30 < fits.available / 2**30
    too_long = engine_need(SEVEN, VllmEngine(args={"max_model_len": 131_072, "dtype": "float32"}), small)
    halved = engine_need(SEVEN, VllmEngine(tensor_parallel_size=2), small)
    assert too_long.total > too_long.available and halved.total < fits.total


def test_what_does_not_fit_is_a_sentence(tmp_path: Path, tiny_model: Path) -> None:
    tiny = Machine(2, False, 2**30)
    found = plan(
        recipe_of("direct", tmp_path, tiny_model, engine={"kind": "vllm"}), RunDir(tmp_path / "run"), tiny
    )
    assert [p.split(" does")[0] for p in found.problems] == ["The engine", "The training"]
    assert all("GiB, and this machine has 1.0" in p for p in found.problems)
    few = recipe_of("direct", tmp_path, tiny_model, rounds=5, new_questions=True)
    assert any("5 rounds of 20 new questions need 100 tasks, and there are 80" in p for p in
               plan(few, RunDir(tmp_path / "run"), HERE).problems)  # fmt: skip


def test_parameters_are_read_from_the_files(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert model_size(str(tiny_model), None).parameters == model.num_parameters()


@given(st.floats(0, 1e12))
def test_numbers_are_short(value: float) -> None:
    assert len(number(value)) <= 6


def test_a_span_is_one_number_or_two() -> None:
    assert [span(Span(3, 3)), span(Span(0, 12_345)), span(Span(0.25, 0.5), 1)] == ["3", "0-12k", "0.2-0.5"]


def test_the_command(selfloop: Any, tmp_path: Path, tiny_model: Path) -> None:
    from pipeline.config import dump_recipe

    recipe = tmp_path / "r.yaml"
    recipe.write_text(dump_recipe(recipe_of("direct", tmp_path, tiny_model, rounds=9)))
    shown = selfloop("iterate", recipe, "--plan", "--run", tmp_path / "run")
    assert shown.status == 0 and not (tmp_path / "run").exists(), shown.text
    assert "left in all" in shown.out and "3-8    all stages" in shown.out
    assert max(map(len, shown.out.splitlines())) <= COLUMNS
    alone = selfloop("iterate", recipe, "--sample", "3")
    assert alone.status == 2 and "--sample measures for --plan" in alone.text


def test_a_training_that_is_over_tells_the_speed_of_the_next(tmp_path: Path, tiny_model: Path) -> None:
    worked = rows(tmp_path, "worked", [{"question": f"What is {i} - 1?", "answer": i - 1} for i in range(8)])
    train = {"max_steps": 10, "batch_size": 4}
    recipe = recipe_of("direct", tmp_path, tiny_model, demonstrations=worked, train=train)
    run = RunDir(tmp_path / "run")
    freeze(run, run.freeze(recipe))
    counts: dict[str, Any] = {"steps": 10, "examples": 8, "left_out": 0, "tokens": 1000, "seconds": 20.0}
    result = TrainResult("m", "r", "b", tokens_per_second=50.0, final_loss=1.0, shares={}, hyperparameters={},
                         versions={}, fingerprint={}, **counts)  # fmt: skip
    files.write_json(f"{run.stage(0, TRAIN)}/train.json", asdict(result))
    lines = {line.round: line for line in plan(recipe, run, HERE).lines if line.trains}
    assert lines[0].done and lines[0].completion == Span(1000, 1000) and not lines[1].done
    assert lines[1].completion == Span(1000, 1000) and lines[1].requests == Span(10, 10)
    assert lines[1].seconds == Span(20 + 70, 20 + 70)  # 50 tokens/s, and the starts of training and engine
