"""The run.yaml of a run: damage is one clear error, and what older versions wrote still opens."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline import overview
from pipeline.config import VllmEngine, dump_recipe, load_recipe, stored_recipe
from pipeline.errors import ConfigError, DamagedError, SelfloopError
from pipeline.rundir import RunDir
from pipeline.store import files
from tests.conftest import tiny_recipe

WHOLE = dump_recipe(tiny_recipe(engine={"kind": "vllm"}))


def cut_after(text: str) -> str:
    return WHOLE[: WHOLE.index(text) + len(text)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a mapping of settings at the top level, got NoneType"),
        ("just words", "got str"),
        ("- not\n- a recipe", "got list"),
        ("name: [", "not valid YAML"),
        ("[" * 1000, "not valid YAML"),
        ("name: 2026-02-31", "not valid YAML"),
        (cut_after("tasks:\n"), "the file is cut off, its last sections are missing"),
        (cut_after("warmup_share: 0.0"), "the file is cut off"),
        (cut_after("name: te"), "the file is cut off"),
        ("\x00\x01", "not valid YAML"),
        (cut_after("runner:\n  workers: 1\n"), "the file is cut off, its last sections are missing"),
        (cut_after("evaluate:\n"), "the file is cut off"),
        (WHOLE.removesuffix("l\n"), "the file is cut off in its last line"),
    ],
)
def test_a_damaged_file_is_one_clear_error(run: RunDir, text: str, said: str) -> None:
    files.write_bytes(run.path("run.yaml"), text.encode())
    for read in (run.recipe, lambda: run.freeze(tiny_recipe())):
        with pytest.raises(DamagedError) as e:
            read()
        assert str(e.value).startswith(f"{run.path('run.yaml')}: ") and said in str(e.value)
        assert "Restore it from a backup, or start again in a new run directory." in str(e.value)


def test_a_file_that_is_not_text_or_not_there(run: RunDir) -> None:
    with pytest.raises(FileNotFoundError):
        stored_recipe(run.path("run.yaml"))
    files.write_bytes(run.path("run.yaml"), "name: ä".encode("latin-1"))
    with pytest.raises(DamagedError, match="cannot be read as UTF-8 text"):
        run.recipe()


def test_a_value_that_cannot_be_is_named_with_its_line(run: RunDir) -> None:
    files.write_bytes(run.path("run.yaml"), WHOLE.replace("rounds: 2", "rounds: two").encode())
    with pytest.raises(SelfloopError, match=r"run.yaml:3: rounds: Input should be a valid integer"):
        run.recipe()


@pytest.mark.parametrize("retries", [5, 9])
def test_an_old_run_has_max_retries_for_vllm_and_goes_on(run: RunDir, retries: int) -> None:
    """Every engine had that setting, and vLLM ignored it: neither a difference nor an unknown key."""
    old = yaml.safe_load(WHOLE)
    old["engine"]["max_retries"] = retries
    old["evaluate"]["engine"] = {**old["engine"], "replicas": 2}
    files.write_bytes(run.path("run.yaml"), yaml.safe_dump(old).encode())
    files.write_json(run.path("rounds", "base", "evaluate", "fingerprint.json"), {})
    assert run.recipe().engine == VllmEngine()
    same = tiny_recipe(engine={"kind": "vllm"}, evaluate={"engine": {"kind": "vllm", "replicas": 2}})
    assert run.freeze(same) == same == load_recipe(run.path("run.yaml"))
    assert "max_retries" not in Path(run.path("run.yaml")).read_text()


@pytest.mark.parametrize(
    "train", [{"lr_scheduler_type": "cosin"}, {"batch_size": 16, "workers": 3}, {"micro_batch_size": 3}]
)
def test_a_run_that_could_never_train_still_opens(run: RunDir, train: dict[str, Any]) -> None:
    """A recipe with these is refused; the rows of a run that was started with one are worth reading."""
    run.freeze(tiny_recipe(train=train))
    assert run.recipe().train.batch_size == 16
    with pytest.raises(ConfigError, match=r"run.yaml:\d+: train"):
        load_recipe(run.path("run.yaml"))


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_damaged(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    run = RunDir(tmp_path_factory.mktemp("cut"))
    files.write_bytes(run.path("run.yaml"), WHOLE[:at].encode())
    with pytest.raises(DamagedError):
        run.recipe()
    with pytest.raises(DamagedError):
        overview.overview(run)


def test_a_default_that_has_changed_since_is_the_former_one(run: RunDir) -> None:
    data = yaml.safe_load(WHOLE)
    del data["train"]["learning_rate"], data["train"]["dpo"]["loss_type"]
    files.write_bytes(run.path("run.yaml"), yaml.safe_dump(data).encode())
    train = run.recipe().train
    assert (train.learning_rate, train.dpo.loss_type, train.dpo.learning_rate) == (2e-4, ["sigmoid"], None)
    files.write_bytes(run.path("run.yaml"), WHOLE.encode())
    assert run.recipe().train == tiny_recipe().train
