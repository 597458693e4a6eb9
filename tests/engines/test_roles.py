"""A request's role is part of its key, and names the LoRA adapter that vLLM answers with.

No engine is started here.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import VllmEngine
from pipeline.engines.base import Completion, Request, Sampling
from pipeline.engines.replica import EngineReplica
from pipeline.engines.vllm import VllmClient, _lora_args
from pipeline.models import ModelRef
from pipeline.runner.llm import LLM


@pytest.fixture
def adapters(tmp_path: Path) -> tuple[tuple[str, str], ...]:
    for role, rank in (("generator", 8), ("extender", 12)):
        (tmp_path / role).mkdir()
        (tmp_path / role / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return (("generator", str(tmp_path / "generator")), ("extender", str(tmp_path / "extender")))


def test_a_role_is_part_of_the_key_and_no_role_is_as_before() -> None:
    keys = {Request(prompt="x", role=role).key("m") for role in ("", "generator", "extender")}
    assert len(keys) == 3 and Request(prompt="x").key("m") in keys


def test_the_key_is_computed_for_the_model_that_is_named_and_for_one_without_a_name() -> None:
    request = Request(prompt="x")
    assert [request.key(m) for m in ("", "m", "", "n", "m")] == [
        Request(prompt="x").key(m) for m in ("", "m", "", "n", "m")
    ]
    assert len({request.key(m) for m in ("", "m", "n")}) == 3 and len(request.key("")) == 32


async def test_the_role_travels_with_the_question() -> None:
    seen: list[Request] = []

    async def send(request: Request) -> list[Completion]:
        seen.append(request)
        return [Completion("a", "stop", 1, 1)]

    llm = LLM(send, "r", "m", Sampling())
    for index in (None, 3):
        await llm.ask("self_lengthen/write", instruction="Write.", role="extender", sample_index=index)
    await llm.ask("self_lengthen/write", instruction="Write.", role="extender")
    await llm.ask("self_lengthen/write", instruction="Write.")
    assert [(r.role, r.sample_index) for r in seen] == [
        ("extender", 0),
        ("extender", 3),
        ("extender", 1),
        ("", 0),
    ]


def test_the_engine_makes_room_for_all_adapters_and_needs_nothing_without(
    adapters: tuple[tuple[str, str], ...],
) -> None:
    assert (
        _lora_args(adapters) == {"enable_lora": True, "max_loras": 2, "max_lora_rank": 16}
        and _lora_args(()) == {}
    )


async def test_each_request_is_answered_by_the_adapter_of_its_role(
    adapters: tuple[tuple[str, str], ...],
) -> None:
    told: list[Any] = []

    class Engine:
        async def generate(self, prompt: Any, params: Any, number: str, lora_request: Any = None) -> Any:
            told.append(lora_request)
            yield SimpleNamespace(
                outputs=[
                    SimpleNamespace(index=0, text="a", finish_reason="stop", token_ids=[1], logprobs=None)
                ],
                prompt_token_ids=[1],
                prompt_logprobs=None,
            )

    client = VllmClient(VllmEngine(), ModelRef("model", "m", "1", adapters))
    client._engine = Engine()
    for role in ("generator", "extender", "", "nobody"):
        await client.generate(Request(prompt="x", role=role))
    assert [(a.lora_name, a.lora_int_id, a.lora_path) if a else None for a in told] == [
        ("generator", 1, adapters[0][1]),
        ("extender", 2, adapters[1][1]),
        None,
        None,
    ]


async def test_an_engine_is_started_anew_for_other_adapters_and_given_other_weights_without(
    adapters: tuple[tuple[str, str], ...], tmp_path: Path
) -> None:
    for name in ("base", "trained"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    base, trained = (ModelRef(str(tmp_path / name), name, name) for name in ("base", "trained"))
    adapted, further = (ModelRef(base.path, name, name, adapters) for name in ("round-001", "round-002"))
    given: list[str] = []

    class Engine:
        async def reload(self, path: str) -> None:
            given.append(path)

    for before, after, is_given in (
        (base, trained, True),
        (base, adapted, False),
        (adapted, further, False),
        (adapted, base, False),
    ):
        replica = EngineReplica(VllmEngine(), 0, None)
        replica._engine, replica._model = Engine(), before
        assert await replica._reloaded(after) is is_given
    assert given == [trained.path]
