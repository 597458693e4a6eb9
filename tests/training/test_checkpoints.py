"""A torn checkpoint is never resumed from."""

from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from pipeline.training.checkpoints import MARK, MarkComplete, is_complete, last_complete, remove_torn


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Complete checkpoints at steps 2 and 10."""
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"w" * 100)
        (folder / "trainer_state.json").write_text("{}")
        state = TrainerState(global_step=step, is_world_process_zero=True)
        MarkComplete().on_save(TrainingArguments(str(tmp_path), use_cpu=True), state, TrainerControl())
    return tmp_path


def test_the_last_one_by_steps_not_by_name(output):
    assert last_complete(output) == output / "checkpoint-10"


@pytest.mark.parametrize("tear", ["cut", "missing", "unmarked"])
def test_torn_ones_are_passed_over_and_removed(output, tear):
    torn = output / "checkpoint-10"
    if tear == "cut":
        (torn / "model.safetensors").write_bytes(b"w" * 99)
    else:
        (torn / {"missing": "trainer_state.json", "unmarked": MARK}[tear]).unlink()
    assert not is_complete(torn) and last_complete(output) == output / "checkpoint-2"
    assert (
        remove_torn(output) == ["checkpoint-10"] and not torn.exists() and (output / "checkpoint-2").exists()
    )


def test_nothing_there(tmp_path):
    assert last_complete(tmp_path / "none") is None and remove_torn(tmp_path / "none") == []
