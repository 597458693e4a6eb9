"""The same rows, whatever happens on the way: late answers, a killed worker, an endpoint, a budget."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.rundir import RunDir
from tests.conftest import tiny_recipe
from tests.engines.server import LocalServer
from tests.stages.methods.regenesis.rounds import SUMS, asked, make, payloads, recipe_in
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]


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
    """Its worker is killed when the first paths are asked for.

    Requests that were finished then are not made again.
    """
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
    """Every question costs at least the budget, and at most one answer more.

    Without a budget nothing changes.
    """
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
