"""A whole training of the tiny model inside Ray Train: what comes out, and that the same call finds it again."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StageError, StaleError
from pipeline.models import folder_revision
from pipeline.store.files import read_json
from pipeline.training.launch import train
from pipeline.training.progress import read_progress


def test_trains_records_and_finds_itself_done(local_ray, make_spec, tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec, seen = make_spec(learning_rate=1e-2), []
    result = train(spec, seen.append)
    assert (result.examples, result.left_out, result.steps) == (36, 0, 9)
    assert result.shares == {"real": 6, "synthetic": 30, "rounds": {"0": 6, "1": 18, "2": 12}}
    assert [line["step"] for line in seen] == list(range(1, 10)) and seen[-1]["loss"] < seen[0]["loss"]
    assert seen == read_progress(Path(spec.work) / "progress.jsonl")
    work = Path(spec.work)
    assert (work / "loss.png").read_bytes().startswith(b"\x89PNG") and not (work / "checkpoints").exists()
    model = AutoModelForCausalLM.from_pretrained(spec.out)
    assert model.dtype == torch.bfloat16 and result.revision == folder_revision(Path(spec.out))
    assert AutoTokenizer.from_pretrained(spec.out).chat_template == AutoTokenizer.from_pretrained(tiny_model).chat_template
    data_tokens = sum(read_json(f"{part.path}/manifest.json")["rows"] for part in spec.mixture.parts)
    assert data_tokens == 36 and result.tokens > 36 * 30

    assert train(spec) == result  # nothing is done again
    with pytest.raises(StaleError, match=r"train\.learning_rate: was 0\.01, is 0\.02"):
        train(dataclasses.replace(spec, train=spec.train.model_copy(update={"learning_rate": 2e-2})))
