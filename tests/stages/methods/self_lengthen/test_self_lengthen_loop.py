"""One macro-iteration of Self-Lengthen on the scripted engine.

Training is real: the generator's adapter on the tiny model. Fault 9 of the released code (1.14).
"""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.config import build_recipe
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.methods.self_lengthen.length_evaluation import texts_of
from stages.methods.self_lengthen.lengths import Demand, words
from stages.methods.self_lengthen.method import SelfLengthen
from stages.reports.table import rounds_table
from stages.rounds.loop import Loop
from tests.conftest import tiny_recipe
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]

MAX_LENGTH = 130  # tokens: too few for what the extender would learn, so that one training is enough


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    folder = tmp_path_factory.mktemp("self_lengthen")
    seeds = [
        {"instruction": f"Tell a story about {noun} that the {i}th child told."}
        for i, noun in enumerate(["oaks", "elms", "mice", "owls", "bees", "pigs"] * 3)
    ]
    prompts = [
        {"question": f"Write {a} {n} words on snow {n}.", "answer": f"{kind} {n}"}
        for n in (10, 20)
        for a, kind in (("about", "about"), ("at least", "above"))
    ]
    for name, rows in (("seeds", seeds), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tiny_recipe(
        rounds=1,
        model={"base": str(tiny_model)},
        engine={"kind": "scripted", "answers": "tests.stages.methods.self_lengthen.answers:writes"},
        tasks={
            "source": "jsonl",
            "path": str(folder / "seeds.jsonl"),
            "columns": {"question": "instruction", "answer": None},
            "answer_type": "text",
        },
        held_out={"count": 6},
        sampling={"max_tokens": 200},
        train={
            "max_steps": 1,
            "batch_size": 2,
            "max_length": MAX_LENGTH,
            "lora": {"r": 4, "alpha": 8},
            "adapters": True,
        },
        method={
            "name": "self_lengthen",
            "instructions": 3,
            "instruction_tries": 3,
            "draft_tries": 2,
            "attempts": 1,
            "micro_iterations": 2,
            "demand_unit": 20,
        },
        evaluate={
            "bootstrap": 100,
            "samples": 1,
            "sets": {
                "lengths": {"source": "jsonl", "path": str(folder / "prompts.jsonl"), "answer_type": "text"}
            },
        },
    )
    run = RunDir(folder / "run")
    asyncio.run(Loop(run, run.freeze(recipe)).iterate(1))
    return run


@pytest.mark.train
def test_every_row_is_accounted_for(finished: RunDir) -> None:
    manifests = {s: finished.manifest(finished.stage(1, s)) for s in (*STAGES, "publish")}
    for manifest in manifests.values():
        manifest.check()
    generate, critique = manifests["generate"], manifests["critique"]
    assert [s.name for s in generate.steps] == [
        "accepted",
        "distinct",
        "length_bias",
    ] and generate.rows_in == 12
    assert critique.rows_out == 2 * critique.rows_in == 2 * generate.rows_out
    assert (
        manifests["filter"].steps[0].name == "length_bias"
        and manifests["filter"].steps[0].dropped["length_bias"] > 0
    )
    assert 0 < manifests["publish"].rows_out <= manifests["filter"].rows_out == manifests["verify"].rows_out


@pytest.mark.train
def test_fault_9_long_examples_are_left_out_one_by_one_and_nothing_is_cut(finished: RunDir) -> None:
    rows = {row.id: row.payload for row in finished.rows(finished.stage(1, "publish"))}
    datasets = {
        role: load_from_disk(finished.dataset(f"sft-{role}", 1))["train"] for role in SelfLengthen.roles
    }
    assert (
        len(datasets["generator"]) == len(rows)
        and len(datasets["extender"])
        == 0
        < finished.manifest(finished.stage(1, "publish")).dropped_in_all()["too_long"]
    )
    assert all(p["too_long_examples"] == [1] for p in rows.values()), (
        "a row lost its long example and kept the other"
    )
    dataset, card = datasets["generator"], Path(finished.dataset("sft-generator", 1), "README.md").read_text()
    assert (
        max(a + b for a, b in zip(dataset["tokens_prompt"], dataset["tokens_completion"], strict=True))
        <= MAX_LENGTH
    )
    assert (
        "Role: generator" in card
        and f"of rows that have others: {len(rows)} left out" in card
        and "ask for the length of their text" in card
    )
    assert "Verifier: rules for long texts, and more than 1.2 times the words of the draft" in card
    for example in dataset:
        row = rows[example["row_id"]]
        assert (
            example["completion"] == [{"role": "assistant", "content": row["text"]}]
            and words(row["text"]) > 1.2 * row["draft_words"]
        )
        assert example["prompt"][-1]["content"] == row["asked"]
        assert (
            row["demand"] is None
            or Demand.parse(row["demand"]).score(words(example["completion"][0]["content"])) == 1
        )


@pytest.mark.train
def test_evaluation_measures_lengths_beside_a_control(finished: RunDir, capsys: Any) -> None:
    base, after = (json.loads(Path(finished.evaluation(r)).read_text()) for r in ("base", 1))
    texts = [row.payload for row in finished.rows(finished.stage("base", "evaluate"))]
    found, counts = base["measures"], [[t["words"] for t in texts_of(row, "greedy")] for row in texts]
    assert {len(both) for both in counts} == {2} and any(one != other for one, other in counts)
    assert base["n"] == found["words"]["n"] == 6, "an instruction counts once, with its mean"
    assert found["words"]["max"] == max(sum(both) / 2 for both in counts)
    assert found["passes rules"]["mean"] == base["greedy"]["mean"] and "pass@1" not in base
    assert (
        found["words, asked for longer"]["mean"] > found["words"]["mean"]
        and "words, asked for longer" not in after["measures"]
    )
    scores = base["sets"]["lengths"]
    assert {k for k in scores["measures"] if k.startswith("length score")} == {
        "length score: about",
        "length score: above",
    } and scores["n"] == 4
    expected = [
        Demand.parse(row.payload["answer"]).score(words(text["text"]))
        for row in finished.rows(finished.stage("base", "evaluate-lengths"))
        for text in texts_of(row.payload, "greedy")
    ]
    assert scores["greedy"]["mean"] == pytest.approx(sum(expected) / 8)
    assert after["against_base"]["round"] == "base"
    rounds_table(finished)
    assert "length score" in " ".join(capsys.readouterr().out.split())
    assert {r["step"] for r in request_log.records(f"{finished.stage('base', 'evaluate')}/requests")} == {
        "self_lengthen/write",
        "self_lengthen/longer",
    }


@pytest.mark.train
def test_the_report_is_in_the_run(finished: RunDir) -> None:
    report = Path(finished.root, "lengths.txt").read_text()
    expected = (
        "base model, asked for longer",
        "round 1, drafts",
        "round 1, extended drafts",
        "round 1, extensions",
        "model of round 1",
        "repetition rate",
    )
    further = (
        "words, model of round 1 minus base model, asked for longer:",
        "length score on lengths, base model",
        "generate, length_bias",
    )
    for line in (*expected, *further):
        assert line in report, report
    [line] = [line for line in report.splitlines() if line.startswith("base model, asked for longer ")]
    assert line.split()[5] == "12" and "minus base model, asked for longer: " in report
    assert "(n = 6)" in report, "paired by instruction, over its two texts"
    filtered = finished.manifest(finished.stage(1, "filter"))
    refused = sum(filtered.rows_dropped.values())
    asked = [
        r
        for r in request_log.records(f"{finished.stage(1, 'generate')}/requests")
        if r["step"].endswith("/write")
    ]
    [line] = [line for line in report.splitlines() if line.startswith("round 1, drafts ")]
    assert finished.manifest(finished.stage(1, "generate")).rows_out < int(line.split()[3]) <= len(asked), (
        "those that a filter dropped are among them"
    )
    assert "examples too long to train on, of rows that have another" in report
    assert f"filter: {filtered.rows_in - refused} of {filtered.rows_in}" in report
    assert Path(finished.root, "lengths.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.train
def test_each_role_is_asked_by_its_name_and_the_generator_has_its_adapter(finished: RunDir) -> None:
    loop = Loop(finished, finished.recipe())
    ref, result = loop.trained(1), asyncio.run(loop.train(1))  # the same call again finds it done
    assert ref.path == loop.base.path and ref.revision == result.revision != loop.base.revision
    [(role, folder)] = ref.adapters
    assert role == "generator" and sorted(
        f.name for f in Path(folder).iterdir() if f.suffix == ".safetensors"
    ) == ["adapter_model.safetensors"]
    assert result.steps == 1 and result.examples == len(
        load_from_disk(finished.dataset("sft-generator", 1))["train"]
    )
    roles = {
        (r["step"].rsplit("/", 1)[1], r.get("role", ""))
        for s in ("generate", "critique")
        for r in request_log.records(f"{finished.stage(1, s)}/requests")
    }
    assert roles == {("instruct", ""), ("judge", ""), ("write", "generator"), ("extend", "extender")}
    assert {r["role"] for r in request_log.records(f"{finished.stage(1, 'evaluate')}/requests")} == {
        "generator"
    }


async def published_anew(finished: RunDir, folder: Path, **changes: dict[str, Any]) -> RunDir:
    """Return a copy of a run whose first round is published again, with changes of the recipe's sections."""
    run = RunDir(folder)
    shutil.copytree(finished.root, run.root)
    for made in ("datasets", "rounds/001/publish"):
        shutil.rmtree(run.path(made))
    Path(run.path("run.yaml")).unlink()
    settings = finished.recipe().model_dump(mode="json")
    changed = {name: {**settings[name], **values} for name, values in changes.items()}
    await Loop(run, run.freeze(build_recipe({**settings, **changed}))).publish(1)
    return run


@pytest.mark.train
@pytest.mark.parametrize("adapters", [True, False])
async def test_both_kinds_of_pairs_are_published_together_or_by_role(
    finished: RunDir, tmp_path: Path, adapters: bool
) -> None:
    run = await published_anew(finished, tmp_path / "more", train={"adapters": adapters, "max_length": 600})
    rows = run.manifest(run.stage(1, "publish")).rows_out
    found = {
        folder.name: load_from_disk(str(folder / "round-001"))["train"]
        for folder in Path(run.path("datasets")).iterdir()
    }
    assert {name: len(data) for name, data in found.items()} == (
        {"sft-generator": rows, "sft-extender": rows} if adapters else {"sft": 2 * rows}
    )
    for name, data in found.items():
        extends = {
            row_id: "Outline:" in prompt[-1]["content"]
            for row_id, prompt in zip(data["row_id"], data["prompt"], strict=True)
        }
        assert {row_id.endswith("-1") for row_id, e in extends.items() if e} == (
            {True} if name != "sft-generator" else set()
        )
        assert {row_id.endswith("-1") for row_id, e in extends.items() if not e} == (
            {False} if name != "sft-extender" else set()
        )


@pytest.mark.train
async def test_the_control_publishes_drafts_of_the_same_rows(finished: RunDir, tmp_path: Path) -> None:
    run = await published_anew(finished, tmp_path / "drafts", method={"arm": "drafts"})
    verified = {row.payload["draft"] for row in run.rows(run.stage(1, "verify"))}
    learnt = load_from_disk(run.dataset("sft-generator", 1))["train"]["completion"]
    drafts = [turns[0]["content"] for turns in learnt]
    assert drafts and set(drafts) == verified and len(drafts) == len(verified)
    card = Path(run.dataset("sft-generator", 1), "README.md").read_text()
    assert "Control (method.arm: drafts)" in card
