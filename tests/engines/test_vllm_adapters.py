"""Real vLLM with two LoRA adapters of the packaged model: each role is answered by its own, all others by the model itself."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import VllmEngine
from pipeline.engines.base import Request, Sampling
from pipeline.engines.pool import EnginePool
from pipeline.models import PACKAGED, resolve_model, with_adapters
from tests.conftest import tiny_recipe

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]
ENGINE = {"kind": "vllm", "args": {"max_model_len": 256, "max_num_seqs": 8}}


async def test_roles_are_answered_by_their_adapters(local_ray: Any, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = resolve_model(PACKAGED)
    for seed, role in enumerate(("generator", "extender")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base.path)
        # Not trained, but not zero either: what it says then differs from what the model says.
        get_peft_model(
            model,
            LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
        ).save_pretrained(tmp_path / role)
    pool = EnginePool(tiny_recipe(engine=ENGINE), VllmEngine(**ENGINE))
    try:
        engine = (await pool.use(with_adapters(base, str(tmp_path), ("generator", "extender")))).connect()
        question = [{"role": "user", "content": "Say hello."}]
        said = {}
        for role in ("generator", "extender", "", "nobody"):
            request = Request(
                messages=question, sampling=Sampling(temperature=0, max_tokens=16), row=f"r{role}", role=role
            )
            said[role] = (await engine.generate(request))[0].text
    finally:
        await pool.free()
    assert said[""] == said["nobody"] and len({said["generator"], said["extender"], said[""]}) == 3
