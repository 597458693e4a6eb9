"""The run directory: a recipe is frozen in it, and paths are the same however they are written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import registry
from pipeline.config import Recipe
from pipeline.errors import SelfloopError, StageError, StaleError
from pipeline.rows import Kept, Row
from pipeline.rundir import MAY_CHANGE, RunDir, differences
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, PartEntry

Make = Callable[..., Recipe]


def test_the_same_recipe_again(run: RunDir, make_recipe: Make) -> None:
    assert not run.exists()
    assert run.freeze(make_recipe()) == make_recipe()
    assert run.exists() and run.recipe() == make_recipe()
    assert run.freeze(make_recipe()) == run.recipe()


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 9},
        {"runner": {"workers": 3, "part_rows": 7, "in_flight": 1}},
        {"engine": {"kind": "scripted", "latency": 2, "kill_on": "x"}},
        {"train": {"workers": 2}},
        {"evaluate": {"engine": {"kind": "scripted"}, "bootstrap": 500}},
    ],
)
def test_what_may_change(run: RunDir, make_recipe: Make, changes: dict[str, Any]) -> None:
    run.freeze(make_recipe())
    assert run.freeze(make_recipe(**changes)) == make_recipe(**changes) == run.recipe()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"sampling": {"temperature": 0.5}}, "sampling.temperature: 1.0 -> 0.5"),
        ({"method": {"name": "direct", "samples": 9}}, "method.samples: 4 -> 9"),
        ({"train": {"learning_rate": 1}}, "train.learning_rate: None -> 1.0"),
        ({"train": {"lora": {}}}, "train.lora: None -> {"),
        ({"engine": {"kind": "scripted", "answers": "math:sqrt"}}, "engine.answers: 'hash' -> 'math:sqrt'"),
        ({"engine": {"kind": "vllm"}}, "engine.kind: 'scripted' -> 'vllm'"),
        ({"name": "other"}, "name: 'test' -> 'other'"),
    ],
)
def test_what_may_not_change_is_named_with_both_values(
    run: RunDir, make_recipe: Make, changes: dict[str, Any], said: str
) -> None:
    run.freeze(make_recipe())
    files.write_json(run.path("rounds", "base", "evaluate", "fingerprint.json"), {})
    with pytest.raises(StaleError) as e:
        run.freeze(make_recipe(**changes))
    assert said in str(e.value) and "runner" not in str(e.value)
    assert run.recipe() == make_recipe()


def test_a_recipe_with_a_mistake_can_be_mended_where_no_stage_has_begun(
    run: RunDir, make_recipe: Make
) -> None:
    run.freeze(make_recipe(verifier="majority_vote"))
    files.write_json(run.path("tasks", "train", "manifest.json"), {})
    assert run.freeze(make_recipe(seed=1)) == run.recipe() == make_recipe(seed=1)
    assert not files.exists(run.path("tasks")), "read again, by the new recipe"
    run.freeze(make_recipe(seed=1))
    files.write_json(run.path("branch.json"), {"source": "x", "round": 0})
    with pytest.raises(StaleError, match="seed: 1 -> 2"):
        run.freeze(make_recipe(seed=2))


def test_settings_that_may_change_exist() -> None:
    """A renamed setting must not fall out of MAY_CHANGE unseen."""
    from pipeline.config import Dpo, Kto, OpenaiEngine, Recipe, ScriptedEngine, Train, VllmEngine

    for engine in (VllmEngine, OpenaiEngine, ScriptedEngine):
        settings = {
            key for key in engine.may_change if not key.startswith("args.")
        }  # those: engines/test_vllm.py
        assert settings and settings <= engine.model_fields.keys()
    sections = {"dpo": Dpo, "kto": Kto}
    of_training = Train.model_fields.keys() | {
        f"{kind}.{name}" for kind, section in sections.items() for name in section.model_fields
    }
    for key in MAY_CHANGE:
        section, _, name = key.partition(".")
        known = of_training
        if section != "train":
            known = getattr(Recipe.model_fields[section].annotation, "model_fields", {})
        assert section in Recipe.model_fields and (not name or name in known), key
    for name in ("agent_r", "self"):
        method = registry.resolve("method", name)
        options = (*method.may_change, *method.engine_options)
        assert options and all(option in method.Options.model_fields for option in options)


def test_no_run_here(run: RunDir) -> None:
    with pytest.raises(SelfloopError, match=r"no run here \(run.yaml is missing\)"):
        run.recipe()


def test_differences() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}) == [
        ("a.c", 2, 4),
        ("d", 3, None),
        ("e", None, 5),
    ]


def put_stage(run: RunDir, folder: str) -> None:
    writer = parts.PartWriter(folder, folder, "00000")
    writer.add(Row("a", {}), Kept([Row("b", {"x": 1}, ["a"])]))
    writer.flush()
    (path,) = files.glob(folder, "part-*.arrow")
    entry = PartEntry(path=path.removeprefix(run.root).lstrip("/"), rows=1, sha256=parts.sha256(path))
    Manifest(
        stage="generate",
        round=1,
        method="m",
        fingerprint="",
        rows_in=1,
        rows_done=1,
        rows_out=1,
        parts=[entry],
    ).write(folder)


@pytest.mark.parametrize(
    "form", ["{}", "{}/", "{}/../run", "file://{}", "memory://{}", "memory:/{}/", "{} [1] *? ü"]
)
def test_a_run_is_the_same_however_its_path_is_written(tmp_path: Path, form: str) -> None:
    """Part paths in manifests are relative to the run.

    A path that is written otherwise must not change them.
    """
    run = RunDir(form.format(tmp_path / "run"))
    put_stage(run, run.stage(1, "generate"))
    assert [r.id for r in run.rows(run.stage(1, "generate"))] == ["b"]
    assert (
        run.manifest(run.stage(1, "generate")).parts[0].path == "rounds/001/generate/part-00000-00000.arrow"
    )
    assert run.rounds() == [1]
    if "memory" in form:
        assert run.local is None
        files.remove(run.root)
    else:
        assert run.local.is_absolute() and (run.local / "rounds").is_dir()


def test_a_run_can_be_moved(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a")
    put_stage(run, run.stage(1, "generate"))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = RunDir(tmp_path / "b")
    assert [r.id for r in moved.rows(moved.stage(1, "generate"))] == ["b"]


def test_a_relative_run_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDir("here")
    monkeypatch.chdir("/")
    assert run.root == str(tmp_path / "here")


def test_rows_of_a_stage_that_is_not_done(run: RunDir) -> None:
    with pytest.raises(SelfloopError, match="not done yet"):
        list(run.rows(run.stage(1, "generate")))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stage": "x"}', b'{"from": "a later version"}'])
def test_a_damaged_manifest_is_not_read_as_done(run: RunDir, content: bytes) -> None:
    files.write_bytes(run.path("rounds", "001", "x", "manifest.json"), content)
    with pytest.raises(StageError, match="not a manifest"):
        run.manifest(run.stage(1, "x"))


def test_rounds_in_order(run: RunDir) -> None:
    for name in ("010", "base", "002", "notes", "1000"):
        files.write_bytes(run.path("rounds", name, "x"), b"")
    assert run.rounds() == ["base", 2, 10, 1000]


def test_settings_of_dpo_may_change_where_there_is_none(run: RunDir, make_recipe: Make) -> None:
    """Or a new default of theirs would keep every supervised run from being resumed with its recipe."""
    run.freeze(make_recipe(train={"dpo": {"loss_type": "sigmoid", "learning_rate": 1e-6}}))
    (Path(run.root) / "rounds").mkdir()
    assert run.freeze(make_recipe()).train.dpo.loss_type == ["sigmoid", "sft"]
    with pytest.raises(StaleError, match="train.dpo.loss_type"):
        run.freeze(make_recipe(train={"kind": "dpo", "dpo": {"loss_type": "ipo"}}))
