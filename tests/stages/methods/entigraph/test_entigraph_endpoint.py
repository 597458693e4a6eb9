"""EntiGraph with texts of an OpenAI-compatible endpoint, a local server.

It is what a generator writes that is stronger than the trained model.
"""

from collections import Counter
from pathlib import Path

import orjson
import pytest
from datasets import load_from_disk

from pipeline.engines.base import Request, Sampling
from pipeline.rundir import RunDir
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.engines.server import Fault, LocalServer, Seen
from tests.stages.methods.entigraph.answers import writes
from tests.stages.methods.entigraph.inputs import write_inputs
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
STEPS = {
    "Prepare the document": "entities",
    "Explain the document": "relation",
    "Compare the text": "judge",
}


def writer(seen: Seen) -> Fault:
    """Answer as the scripted model of the other tests does; the first list of entities is none."""
    body = seen.body
    step = next(
        (step for said, step in STEPS.items() if f"### Task\n{said}" in body["messages"][0]["content"]),
        "rephrase",
    )
    text = writes(
        Request(
            messages=body["messages"], step=f"entigraph/{step}", sampling=Sampling(), sample_index=seen.number
        ),
        0,
    )
    if step == "entities":
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["summary", "entities"]
        text = "I think there are five." if seen.number == 0 else text
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return Fault(
        body=orjson.dumps(
            {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": len(str(text).split())}}
        )
    )


@pytest.mark.parametrize("arm", ["entigraph", "rephrase"])
async def test_an_endpoint_writes_the_texts(
    tmp_path: Path, tiny_model: Path, in_process: None, arm: str
) -> None:
    run, method = (
        RunDir(tmp_path / "run"),
        {"name": "entigraph", "arm": arm, "max_triples": 4, "rephrasings": 2, "faithfulness": 1.0},
    )
    async with LocalServer(plan=writer) as server:
        engine = {"kind": "openai", "base_url": server.url, "model": "writer"}
        recipe = run.freeze(
            tiny_recipe(
                **write_inputs(tmp_path),
                model={"base": str(tiny_model)},
                engine=engine,
                sampling={"max_tokens": 400},
                method=method,
            )
        )
        freeze(run, recipe)
        loop = Loop(run, recipe)
        for stage in ("generate", "critique", "filter", "verify"):
            await loop.stage(1, stage)
        await loop.publish(1)
        judged = run.manifest(run.stage(1, "critique")).requests.sent
        assert server.requests == judged + (3 + 1 + 3 * 14 if arm == "entigraph" else 3 * 6) and judged > 0, (
            "one list of entities was asked for again"
        )
    published = load_from_disk(run.dataset("cpt", 1))["train"]
    forms = Counter(published["src_form"])
    assert set(forms) == (
        {"summary", "pair", "triple"}
        if arm == "entigraph"
        else {f"rephrase:{s}" for s in ("simple", "encyclopedic", "scholarly")}
    )
    assert set(published["src_model"]) == {f"writer@{server.url}"}
    dropped = run.manifest(run.stage(1, "critique")).rows_dropped
    assert set(dropped) == {"unfaithful"} or arm == "rephrase", (
        "one in four of 45 texts; of 18 there may be none"
    )
