"""trainer.yaml: TRL's own parser accepts every key, and `trl sft` trains with it."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.config import Lora
from pipeline.publish.accumulate import Mixture, Part
from pipeline.publish.dataset import publish
from pipeline.training.arguments import trainer_arguments, trainer_yaml
from pipeline.training.data import prepare_data
from tests.publish.conftest import FACTS


def parse(path: Path):
    """Read the file as `trl sft --config` does, but with any unknown key an error."""
    from trl.scripts.sft import make_parser

    return make_parser().parse_args_and_config(["--config", str(path)], fail_with_unknown_args=True)


def test_trl_parses_every_key(make_spec, rounds, tmp_path):
    spec = make_spec(
        lora=Lora(target_modules=["q_proj", "v_proj"]), extra={"max_grad_norm": 0.5}, warmup_share=0.1
    )
    path = tmp_path / "trainer.yaml"
    path.write_text(
        trainer_yaml(
            spec, trainer_arguments(spec, 36, False, True), [str(folder) for folder in rounds.values()]
        )
    )
    _, sft, model, mixture = parse(path)
    assert (sft.max_length, sft.per_device_train_batch_size, sft.warmup_steps, sft.max_grad_norm) == (
        128,
        4,
        0.1,
        0.5,
    )
    assert (
        sft.completion_only_loss
        and sft.bf16
        and not sft.gradient_checkpointing
        and sft.report_to in ([], "none", ["none"])
    )
    assert [part.path for part in mixture.datasets] == [str(folder) for folder in rounds.values()]
    assert (model.use_peft, model.lora_r, model.lora_target_modules, model.dtype) == (
        True,
        16,
        ["q_proj", "v_proj"],
        "bfloat16",  # the frozen weights
    )
    full = dataclasses.replace(spec, train=spec.train.model_copy(update={"lora": None}))
    assert yaml.safe_load(trainer_yaml(full, {"bf16": True}, []))["dtype"] == "float32"


def test_a_round_without_rows_is_left_out_of_it(make_spec, rounds, tmp_path):
    publish([], tmp_path / "none", FACTS, 0)
    spec = make_spec()
    spec = dataclasses.replace(
        spec, mixture=Mixture((Part(str(rounds[0]), 0), Part(str(tmp_path / "none"), 1)))
    )
    assert prepare_data(spec).folders == [str(rounds[0])]


@pytest.mark.filterwarnings("ignore")
def test_trl_sft_trains_with_it(make_spec, rounds, tmp_path, monkeypatch):
    import datasets
    from trl.scripts.sft import main

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    spec = make_spec(max_steps=2)
    data = prepare_data(spec)
    path = tmp_path / "trainer.yaml"
    path.write_text(trainer_yaml(spec, trainer_arguments(spec, data.examples, False, False), data.folders))
    main(*parse(path))
    output = Path(yaml.safe_load(path.read_text())["output_dir"])
    assert (output / "model.safetensors").exists() and (
        output / "checkpoint-2" / "trainer_state.json"
    ).exists()
    shutil.rmtree(output)
