"""Real vLLM with two LoRA adapters of the packaged model.

Each role is answered by its own adapter, all other requests by the model itself.
"""

from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.engines.base import Request, Sampling
from pipeline.engines.pool import EnginePool
from pipeline.models import PACKAGED, resolve_model, with_adapters

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


async def test_roles_answered_by_their_adapters(warm_recipe: Recipe, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = resolve_model(PACKAGED)
    for seed, role in enumerate(("generator", "extender")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base.path)
        # Neither trained nor zero: its answers differ from the model's.
        get_peft_model(
            model,
            LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
        ).save_pretrained(tmp_path / role)
    pool = EnginePool(warm_recipe, warm_recipe.engine)
    engine = (await pool.use(with_adapters(base, str(tmp_path), ("generator", "extender")))).connect()
    question = [{"role": "user", "content": "Say hello."}]
    said = {}
    for role in ("generator", "extender", "", "nobody"):
        request = Request(
            messages=question, sampling=Sampling(temperature=0, max_tokens=16), row=f"r{role}", role=role
        )
        said[role] = (await engine.generate(request))[0].text
    await pool.leave()
    assert said[""] == said["nobody"] and len({said["generator"], said["extender"], said[""]}) == 3
