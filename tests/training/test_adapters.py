"""An adapter for a role.

It is trained on the base model, saved unmerged, continued, and part of the fingerprint.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pipeline.config import Lora
from pipeline.models import ModelRef, folder_revision, with_adapters
from pipeline.training.build import build_trainer
from pipeline.training.process import save_model
from pipeline.training.spec import fingerprint
from tests.training.test_preparation import config

pytestmark = pytest.mark.slow

LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def trained(spec: Any, rounds: dict[int, Path], out: Path, **changes: Any) -> Path:
    """Train two steps, and save the adapter as a worker does."""
    trainer = build_trainer(
        {
            **config(spec, list(rounds.values()), max_steps=2, learning_rate=1e-2, save_strategy="no"),
            "lora": LORA,
            **changes,
        }
    )
    assert {name for name, p in trainer.model.named_parameters() if p.requires_grad} == {
        n for n, _ in trainer.model.named_parameters() if "lora_" in n
    }
    trainer.train()
    save_model(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, out, merge=False)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


def test_an_adapter_is_saved_alone_and_gone_on_with(
    make_spec: Any, rounds: dict[int, Path], tiny_model: Path, folder: Path
) -> None:
    first = trained(make_spec(), rounds, folder / "generator")
    assert {f.suffix for f in first.iterdir()} <= {".json", ".safetensors", ".md"} and not (
        first / "config.json"
    ).exists()
    begun = build_trainer(
        {**config(make_spec(), list(rounds.values())), "lora": LORA, "adapter": str(first)}
    ).model
    now = {n.replace(".default", ""): p for n, p in begun.named_parameters() if "lora_" in n}
    assert len(now) == len(weights(first)) > 0 and all(
        torch.equal(now[name], value) for name, value in weights(first).items()
    ), "it begins where the last one ended"
    second = trained(make_spec(), rounds, folder / "later", adapter=str(first))
    assert any(
        not torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True)
    )
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.arange(10)[None]
    plain = base(ids).logits
    assert not torch.allclose(PeftModel.from_pretrained(base, first)(ids).logits, plain), (
        "and it does something"
    )


def test_under_lora_the_frozen_weights_are_bf16_and_the_adapters_fp32(
    make_spec: Any, rounds: dict[int, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """On a CPU as well; what is saved is the sum of both, rounded once."""
    changes = {"lora": LORA, "precision": "bf16_autocast"}
    arguments = {"max_steps": 6, "learning_rate": 2e-2, "save_strategy": "no", "logging_steps": 1}
    trainer = build_trainer({**config(make_spec(), list(rounds.values()), **arguments), **changes})
    kinds = {("lora_" in name, p.dtype) for name, p in trainer.model.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0] - 0.05
    moments = [s["exp_avg"].dtype for s in trainer.optimizer.state.values()]
    assert set(moments) == {torch.float32}, "AdamW's state is of the adapters alone"
    assert len(moments) == sum("lora_" in name for name, _ in trainer.model.named_parameters())

    model = trainer.accelerator.unwrap_model(trainer.model)
    name = "model.layers.0.self_attn.q_proj"
    layer = model.base_model.model.get_submodule(name)
    exact = layer.base_layer.weight.float() + layer.get_delta_weight("default").float()
    save_model(model, trainer.processing_class, tmp_path / "merged")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert saved.dtype == torch.bfloat16
    assert torch.equal(saved.get_submodule(name).weight, exact.to(torch.bfloat16))
    full = build_trainer({**config(make_spec(), list(rounds.values())), "precision": "bf16_autocast"})
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}, "weights that are trained"


def test_the_fingerprint_and_the_revision_cover_adapters(
    make_spec: Any, tiny_model: Path, folder: Path
) -> None:
    spec = replace(make_spec(lora=Lora(r=4)), role="generator")
    afresh, later = fingerprint(spec), fingerprint(replace(spec, adapter=str(folder / "generator")))
    assert fingerprint(replace(spec, role="extender")) != afresh != later and "adapter" not in fingerprint(
        replace(spec, role="")
    )
    base = ModelRef(str(tiny_model), "tiny", folder_revision(tiny_model))
    both = with_adapters(base, str(folder), ["generator", "later"])
    one = with_adapters(base, str(folder), ["generator", "nobody"])
    assert (
        dict(both.adapters) == {"generator": str(folder / "generator"), "later": str(folder / "later")}
        and both.path == base.path
    )
    assert [role for role, _ in one.adapters] == ["generator"] and len(
        {base.revision, both.revision, one.revision}
    ) == 3
