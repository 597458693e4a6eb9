"""Recipes: what is wrong is said with file, line, key and the nearest right one."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.config import (
    OpenaiEngine,
    Recipe,
    ScriptedEngine,
    VllmEngine,
    build_recipe,
    dump_recipe,
    load_recipe,
)
from pipeline.config.load import _models
from pipeline.errors import ConfigError
from pipeline.store import files
from tests.conftest import tiny_recipe

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
PLAIN = {
    *(
        "name",
        "rounds",
        "trust_remote_code",
        "kind",
        "replicas",
        "tensor_parallel_size",
        "pipeline_parallel_size",
    ),
    *(
        "id",
        "min_tokens",
        "max_tokens",
        "temperature",
        "top_p",
        "min_p",
        "repetition_penalty",
        "stop",
    ),
    *("r", "alpha", "dropout", "target_modules", "weight_decay", "epochs"),
}
GOOD = """\
name: test
engine:
  kind: scripted
  latency: 0.5
tasks:
  source: jsonl
  path: tasks.jsonl
  columns: {question: q}
train:
  lora:
    r: 8
evaluate:
  engine: {kind: scripted}
  k: [1, 2]
method:
  name: direct
  samples: 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A good recipe, to be spoilt."""
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    return path


def refused(path: Path, *overrides: str) -> str:
    """Return the message with which a recipe is refused."""
    with pytest.raises(ConfigError) as e:
        load_recipe(path, overrides)
    return str(e.value)


def test_good(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    assert (
        loaded.engine.latency,
        loaded.tasks.columns.question,
        loaded.train.lora.r,
        loaded.method["samples"],
    ) == (0.5, "q", 8, 3)
    assert loaded.method["keep_per_question"] == 2  # a default of the method


def leaves(model: BaseModel) -> int:
    """Count the settings of a model, those that are None or empty as well."""
    values = [getattr(model, name) for name in type(model).model_fields]
    return sum(leaves(v) if isinstance(v, BaseModel) else 1 for v in values)


def count(value: Any, model: Any) -> int:
    if isinstance(model, BaseModel):
        return sum(count(value[name], getattr(model, name)) for name in type(model).model_fields)
    return 1


@pytest.mark.parametrize(
    "engine",
    [{"kind": "vllm"}, {"kind": "scripted"}, {"kind": "openai", "base_url": "http://x/v1", "model": "m"}],
)
def test_every_default_is_shown_and_read_back(tmp_path: Path, engine: dict[str, Any]) -> None:
    original = tiny_recipe(
        engine=engine,
        train={"lora": {}},
        sampling={"stop": ["\x85\u2028: #", "null", "1e3"], "extra": {"ü": [None, 1.5]}},
    )
    path = tmp_path / "dump.yaml"
    path.write_text(dump_recipe(original), encoding="utf-8")
    assert load_recipe(path) == original
    assert count(yaml.safe_load(path.read_text(encoding="utf-8")), original) == leaves(original)


@given(
    st.text(min_size=1, max_size=20).filter(lambda s: "\x00" not in s),
    st.floats(1e-9, 1, exclude_min=True),
    st.integers(0, 2**32 - 1),
)
def test_round_trip(prompt: str, rate: float, seed: int) -> None:
    original = tiny_recipe(
        seed=seed,
        train={"learning_rate": rate},
        sampling={"stop": [prompt]},
        tasks={"source": "jsonl", "path": prompt},
    )
    assert build_recipe(yaml.safe_load(dump_recipe(original))) == original


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        (1, "nane: test", ":1: nane: unknown key 'nane'; did you mean 'name'?"),
        (4, "  latencyy: 1", ":4: engine.latencyy: unknown key 'latencyy'; did you mean 'latency'?"),
        (
            8,
            "  columns: {questoin: q}",
            ":8: tasks.columns.questoin: unknown key 'questoin'; did you mean 'question'?",
        ),
        (
            11,
            "    rank: 8",
            ":11: train.lora.rank: unknown key 'rank'; known here: alpha, dropout, r, target_modules",
        ),
        (
            13,
            "  engine: {kind: scripted, kil_on: x}",
            ":13: evaluate.engine.kil_on: unknown key 'kil_on'; did you mean 'kill_on'?",
        ),
        (14, "  bootstap: 200", ":14: evaluate.bootstap: unknown key 'bootstap'; did you mean 'bootstrap'?"),
        (17, "  sample: 3", ":17: method.sample: unknown key 'sample'; did you mean 'samples'?"),
        (17, "  samples: 0", ":17: method.samples: Input should be greater than or equal to 1 (given: 0)"),
        (17, "  samples: many", ":17: method.samples: Input should be a valid integer"),
        (16, "  name: direkt", "unknown method 'direkt'. Did you mean 'direct'?"),
        (16, "  nome: direct", "method.name is missing"),
        (11, "    r: zero", ":11: train.lora.r: Input should be a valid integer"),
        (14, "  k: [1, x]", ":14: evaluate.k.1: Input should be a valid integer"),
        (1, "title: x", ":1: name: is missing and has no default"),
        (1, "name: a/b", ":1: name: String should match pattern"),
        (10, "  vllm: 1", ":10: train.vllm: unknown key 'vllm'"),
        (4, "  latency: -1", ":4: engine.latency: Input should be greater than or equal to 0 (given: -1)"),
    ],
)
def test_errors_name_file_line_and_key(recipe: Path, line: int, text: str, said: str) -> None:
    lines = GOOD.splitlines()
    if "lora" in lines[line - 1]:
        lines[line] = ""
    lines[line - 1] = text
    recipe.write_text("\n".join(lines))
    message = refused(recipe)
    assert said in message
    assert message.startswith(str(recipe)) or "unknown method" in said


def test_all_errors_at_once(recipe: Path) -> None:
    recipe.write_text(GOOD + "seeed: 1\nrunner: {workers: 0}\n")
    assert len(refused(recipe).splitlines()) == 2


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("{kind: openai, base_url: x}", "engine.model: is missing"),
        (
            "{kind: openai, base_url: x, model: m, replicas: 1}",
            "'replicas'; known here: api_key_env, backoff, base_url",
        ),
        ("{kind: openai, base_url: 'https://me:sk-1@host/v1', model: m}", "base_url holds credentials"),
        (
            "{kind: openai, base_url: 'https://host/v1?api-version=1&API_KEY=sk-1', model: m}",
            "base_url has 'API_KEY' in its query",
        ),
        ("{kind: scripted, replicas: 1}", "'replicas'; known here: answers"),
        ("{tensor_parallel: 2, kind: vllm}", "did you mean 'tensor_parallel_size'?"),
        (
            "{kind: vlm}",
            "engine.kind: unknown engine 'vlm'. Did you mean 'vllm'? "
            "Known: classifier, openai, scores, scripted, vllm;",
        ),
        ("{kind: 7}", "engine.kind: unknown engine '7'"),
        ("{latency: 1}", "engine.latency: unknown key 'latency'; known here: args, cpu_cores"),
        ("openai", "engine: expected a section such as {kind: vllm}"),
        ("[openai]", "engine: expected a section such as {kind: vllm}"),
    ],
)
def test_the_engine_s_kind_decides_what_is_known(tmp_path: Path, engine: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: t\ntasks: {{source: jsonl}}\nengine: {engine}\n")
    message = refused(path)
    assert said in message and f"{path}:3: " in message and "sk-1" not in message


@pytest.mark.parametrize("policy", ["all", "replace", "window:1", "window:12", "subsample:500"])
def test_accumulate_policies(policy: str) -> None:
    assert tiny_recipe(accumulate={"policy": policy}).accumulate.policy == policy


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "window",
        "window:",
        "window:0",
        "window:-1",
        "window:a",
        "subsample:01",
        "All",
        "all ",
        "all\n",
        "xall",
    ],
)
def test_other_policies_are_refused(policy: str) -> None:
    with pytest.raises(ConfigError, match=r"accumulate\.policy"):
        tiny_recipe(accumulate={"policy": policy})


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.epochs=2", lambda r: r.train.epochs == 2.0),
        ("train.learning_rate=1e-5", lambda r: r.train.learning_rate == 1e-5),
        ("train.lora=null", lambda r: r.train.lora is None),
        ("train.lora={r: 4}", lambda r: r.train.lora.r == 4),
        ("engine={kind: scripted, tokens: 3}", lambda r: r.engine.tokens == 3 and r.engine.latency == 0),
        ("method.samples=7", lambda r: r.method["samples"] == 7),
        ("held_out.count=5", lambda r: r.held_out.count == 5),  # a section the file does not have
        ("tasks.path=a=b", lambda r: r.tasks.path == "a=b"),
        ('tasks.path="7"', lambda r: r.tasks.path == "7"),
        ("evaluate.k=[4]", lambda r: r.evaluate.k == [4]),
        (" seed =3", lambda r: r.seed == 3),
    ],
)
def test_set(recipe: Path, override: str, value: Any) -> None:
    assert value(load_recipe(recipe, [override]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs", "expected key=value"),
        ("=2", "expected key=value"),
        ("train..epochs=2", "expected key=value"),
        ("train.epochs=[", "is not a YAML value"),
        ("train.epochs=2026-02-31", "is not a YAML value"),
        ("train.epochs=two", "--set train.epochs=two: train.epochs: Input should be a valid number"),
        ("train.epoch=2", "--set train.epoch=2: train.epoch: unknown key 'epoch'; did you mean 'epochs'?"),
        ("trian.epochs=2", "unknown key 'trian'; did you mean 'train'?"),
        ("name.x=2", "'name' is 'test', not a section"),
        ("evaluate.k.0=2", "'k' is [1, 2], not a section"),
        ("tasks=7", "--set tasks=7: tasks: Input should be a valid dictionary"),
        ("evaluate={how: loglikelihood, samples: 2}", "nothing is sampled"),
        ("name=", "--set name=: name: Input should be a valid string"),
    ],
)
def test_bad_set(recipe: Path, override: str, said: str) -> None:
    assert said in refused(recipe, override)


def test_an_engine_setting_without_an_engine_section_is_vllm_s(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: t\ntasks: {source: jsonl}\n")
    assert load_recipe(path, ["engine.replicas=2"]).engine == VllmEngine(replicas=2)
    assert load_recipe(path, ["evaluate.engine.gpus=1"]).evaluate.engine == VllmEngine(gpus=1)
    said = "--set engine.latency=2: engine.latency: unknown key 'latency'; known here: args, cpu_cores"
    assert said in refused(path, "engine.latency=2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "not valid YAML"),
        ("name: a\n\tx: b", "not valid YAML"),
        ("name: 2026-02-31", "not valid YAML"),
        ("name: !!python/object/apply:os.system [id]", "not valid YAML"),
        ("{a: 1}: b", "not valid YAML"),
        ("- a", "expected a mapping of settings at the top level, got list"),
        ("", "expected a mapping of settings at the top level, got NoneType"),
        ("just text", "got str"),
        (GOOD + "seed: 1\nseed: 2\n", ":19: seed is there twice (first in line 18)"),
        (GOOD + "runner:\n  workers: 1\n  workers: 2\n", ":20: runner.workers is there twice"),
    ],
)
def test_not_a_recipe(recipe: Path, text: str, said: str) -> None:
    recipe.write_text(text)
    message = refused(recipe)
    assert said in message and str(recipe) in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such recipe" in refused(tmp_path / "none.yaml")
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: ä".encode("latin-1"))
    assert "UTF-8" in refused(tmp_path / "latin.yaml")


def test_anchors_and_merges(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: t\ntasks: &t {source: jsonl, path: a}\ndemonstrations: {<<: *t, path: b}\n")
    loaded = load_recipe(path)
    assert (loaded.demonstrations.source, loaded.demonstrations.path, loaded.tasks.path) == (
        "jsonl",
        "b",
        "a",
    )


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_that_ship_can_be_read(recipe: Path) -> None:
    assert load_recipe(recipe).name == recipe.stem


def test_every_setting_says_what_it_means_or_is_plain() -> None:
    """A typo in a constraint shows here as well: each default is valid, and the schema can be built."""
    assert Recipe.model_json_schema()["title"] == "Recipe"
    models, silent = [Recipe, VllmEngine, OpenaiEngine, ScriptedEngine], set()
    for model in models:
        for name, setting in model.model_fields.items():
            sections = _models(setting.annotation)
            models += [section for section in sections if section not in models]
            if not (setting.description or sections):
                silent.add(name)
    assert len(models) > 15 and silent == PLAIN


@pytest.mark.parametrize(
    ("settings", "part", "of_preset"),
    [
        ({"method": {"name": "regenesis"}, "set": "released-code"}, "n_selected", 20),
        ({"method": {"name": "entigraph"}, "train": {"kind": "cpt"}, "set": "paper"}, "max_triples", 2000),
    ],
)
def test_another_preset_over_a_run_s_recipe_takes_its_parts_along(
    tmp_path: Path, settings: dict[str, Any], part: str, of_preset: int
) -> None:
    """In a run's recipe every part of its preset is spelt out; one that was chosen stays."""
    preset, path = settings.pop("set"), tmp_path / "run.yaml"
    path.write_text(dump_recipe(tiny_recipe(**settings)))
    assert load_recipe(path, [f"method.preset={preset}"]).method[part] == of_preset
    assert load_recipe(path, [f"method.preset={preset}", f"method.{part}=7"]).method[part] == 7
    assert load_recipe(path, [f"method.{part}=7"]).method[part] == 7
    path.write_text(dump_recipe(load_recipe(path, [f"method.{part}=7"])))
    assert load_recipe(path, [f"method.preset={preset}"]).method[part] == 7


def test_a_recipe_on_an_object_store() -> None:
    files.write_bytes("memory://bucket/run.yaml", dump_recipe(tiny_recipe()).encode())
    assert load_recipe("memory://bucket/run.yaml", ["seed=3"]).seed == 3
    with pytest.raises(ConfigError, match="memory://bucket/none.yaml: no such recipe"):
        load_recipe("memory://bucket/none.yaml")
