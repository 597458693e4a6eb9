"""What would stop a training is said before anything is generated for it."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.checks.machine import Gpu
from pipeline.config import Train
from pipeline.errors import ConfigError
from pipeline.models import ModelRef
from pipeline.publish.kinds import CPT, DPO, SFT, TURNS
from pipeline.training import checks
from pipeline.training.checks import check_training


def unasked() -> ModelRef:
    raise AssertionError("the model does not matter here")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"extra": {"optimm": "adafactor"}}, r"train\.extra\.optimm: .*SFTConfig has no such field.*'optim'"),
        ({"extra": {"optim": "adafactr"}}, r"unknown optimizer 'adafactr'\. Did you mean 'adafactor'"),
        ({"extra": {"learning_rate": 1}}, "change it there"),
        ({"extra": {"fsdp": "full_shard"}}, r"train\.extra\.fsdp: is not set here: train\.shard"),
        ({"extra": {"fsdp_config": {"min_num_params": 1}}}, "is not set here"),
        ({"extra": {"deepspeed": "zero3.json"}}, "is not set here"),
        ({"extra": {"eval_strategy": "steps"}}, "evaluates after it"),
        ({"extra": {"packing_strategy": "wrapped"}}, "only bfd"),
        ({"attention": "flash_attention_2"}, r"train\.attention: flash_attention_2 needs a GPU"),
        ({"attention": "flex_attention"}, "needs a GPU"),
        ({"liger": True}, r"train\.liger: needs a GPU"),
        ({"kind": "dpo", "dpo": {"extra": {"packing": True}}}, r"train\.dpo\.extra\.packing: .*DPOConfig"),
        ({"kind": "dpo", "dpo": {"extra": {"deepspeed": {"stage": 3}}}}, r"train\.dpo\.extra\.deepspeed"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "follows evaluations"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, r"min_lr.*train\.extra\.lr_scheduler_kwargs"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"extra": {"lr_scheduler_kwargs": {"num_cycle": 2}}}, "num_cycle"),
        ({"batch_size": 6, "workers": 4}, r"train\.batch_size: 6 is not divisible by train\.workers = 4"),
        ({"kind": "dpo", "batch_size": 6, "workers": 4, "dpo": {"batch_size": 4}}, "evenly among 4"),
    ],
)
def test_refused(settings: dict[str, Any], said: str) -> None:
    kinds = [SFT, DPO] if settings.get("kind") == "dpo" else [SFT]
    with pytest.raises(ConfigError, match=said):
        check_training(Train(**settings), kinds, unasked, False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"extra": {"optim": "adafactor", "max_grad_norm": 0.5, "gradient_checkpointing": False, "fsdp": ""}},
        {"lr_scheduler_type": "cosine_with_min_lr", "extra": {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}},
        {"kind": "dpo", "dpo": {"extra": {"label_smoothing": 0.1}}},
    ],
)
def test_not_refused(settings: dict[str, Any]) -> None:
    kinds = [DPO] if settings.get("kind") == "dpo" else [SFT, TURNS, CPT]
    check_training(Train(**settings), kinds, unasked, False)


@pytest.mark.parametrize(
    ("config", "apart"),
    [
        ({"model_type": "llama"}, True),
        ({"model_type": "gemma3_text"}, True),
        ({"model_type": "mamba"}, False),
        ({"model_type": "lfm2", "layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}, False),
    ],
)
def test_packing_only_where_texts_stay_apart(config: dict[str, Any], apart: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = ModelRef(str(tmp_path), "m", "r")
    for key, train in {
        r"train\.packing": Train(packing=True),
        r"train\.extra\.padding_free": Train(extra={"padding_free": True}),
    }.items():
        if apart:
            check_training(train, [TURNS], lambda: model, False)
        else:
            with pytest.raises(ConfigError, match=f"{key}: the texts .* would see each other"):
                check_training(train, [TURNS], lambda: model, False)
        check_training(train, [CPT], unasked, False)  # its blocks are full
    check_training(Train(packing=True), [DPO], unasked, False)  # which TRL never packs


def test_liger_kernels_are_asked_whether_they_know_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the package; without it, that is what is said."""
    monkeypatch.setattr(checks, "cluster_gpus", lambda address: (Gpu("H100", 80 * 2**30),))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    model = ModelRef(str(tmp_path), "m", "r")
    if importlib.util.find_spec("liger_kernel") is None:
        with pytest.raises(ConfigError, match="the package liger-kernel, which is not installed"):
            check_training(Train(liger=True), [SFT], lambda: model, False)
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: name)
    known: dict[str, None] = {"qwen2": None}
    patch = SimpleNamespace(MODEL_TYPE_TO_APPLY_LIGER_FN=known)
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", patch)
    with pytest.raises(ConfigError, match="no kernels for a llama model"):
        check_training(Train(liger=True), [SFT], lambda: model, False)
    known["llama"] = None
    check_training(Train(liger=True), [SFT], lambda: model, False)
