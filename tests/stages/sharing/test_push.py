"""push: what a dry run writes loads and shows nothing unmeant; what is pushed to a Hub loads from it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from markdown_it import MarkdownIt

from pipeline.config import dump_recipe
from pipeline.publish import SFT, CardFacts, Lineage
from pipeline.publish.dataset import publish
from pipeline.rundir import RunDir
from pipeline.store import files
from tests.conftest import tiny_recipe
from tests.jobs.conftest import Built, assert_safe, built, selfloop
from tests.stages.sharing.hub import TOKEN, serving

__all__ = ["built", "selfloop"]
HOSTILE = (
    "<script>alert(1)</script> </script> {{7*7}} ```\n````\n# not a heading\n<img src=x onerror=alert(1)> "
    "[x](javascript:alert(1)) | a | b |\n\u202ertl \x00 \x1b[31m " + "long " * 100_000
)
ACCURACY = {"mean": 0.554, "low": 0.51, "high": 0.598}


@pytest.fixture
def run(built: Built, tmp_path: Path) -> RunDir:
    """A copy of the run with a second published round, of hostile text, and a trained, evaluated round 1."""
    copy = RunDir(shutil.copytree(built.run.root, tmp_path / "run"))
    row = SFT.row(
        Lineage(
            row_id="bad",
            parent_ids=[],
            task_id="t",
            kind="synthetic",
            round=2,
            method="direct",
            verdict=HOSTILE,
        ),
        prompt=[{"role": "user", "content": HOSTILE}],
        completion=[{"role": "assistant", "content": HOSTILE}],
    )
    publish([row], copy.dataset("sft", 2), CardFacts("small", "direct", HOSTILE[:50], 2), 0)
    folder = Path(copy.model(1))
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "training_args.bin", ".revision.json"):
        (folder / name).write_bytes(b"{}")
    sets = {"hard": {"n": 5, "greedy": ACCURACY}}
    files.write_json(
        copy.evaluation(1),
        {"round": 1, "n": 500, "parsed": 250, "greedy": ACCURACY, "seconds": 1, "sets": sets},
    )
    result = {
        "steps": 40,
        "shares": {"real": 22, "synthetic": 102},
        "hyperparameters": {"output_dir": "/home/me", "seed": 0},
    }
    files.write_json(f"{copy.stage(1, 'train')}/train.json", result)
    engine = {"kind": "openai", "base_url": "https://host/v1?tenant=abc", "model": "big"}
    recipe = tiny_recipe(
        name="small",
        engine=engine | {"extra_body": {"api_key": "sk-secret"}},
        tasks={"source": "jsonl", "path": "/home/me/t.jsonl"},
        evaluate={"base_model": False},
    )
    files.write_bytes(copy.path("run.yaml"), dump_recipe(recipe).encode())
    return copy


def matter(card: Path) -> dict:
    return yaml.safe_load(card.read_text().split("---\n")[1])


def test_a_dry_run_loads_and_its_cards_are_inert(run: RunDir, selfloop, tmp_path: Path):
    folder = tmp_path / "dry"
    said = selfloop("push", run.root, "--to", "me/sums", "--models", "--dry-run", folder, "--license", "mit")
    assert said.status == 0, said.text
    data = folder / "dataset"
    load = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    assert load_dataset(str(data), **load).num_rows == 3
    assert load_dataset(str(data), "sft-round-001", **load).num_rows == 2
    assert load_dataset(str(data), "sft-round-002", **load)[0]["completion"][0]["content"] == HOSTILE
    model = folder / "models" / "round-001"
    assert sorted(p.name for p in model.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for card in (data / "README.md", model / "README.md", *(data / "cards").iterdir()):
        text = card.read_text()
        assert_safe(text)
        page = MarkdownIt("commonmark").enable("table").render(text.partition("\n---\n")[2] or text)
        assert not [tag for tag in ("<script", "<img", 'href="javascript', "<h1>not") if tag in page], card
    card = (data / "README.md").read_text()
    assert "{{7*7}}" in card and "more characters" in card and len(card) < 30_000


def test_cards_say_what_is_in_there(run: RunDir, selfloop, tmp_path: Path):
    selfloop(
        "push", run.root, "--to", "me/sums", "--models", "--dry-run", tmp_path / "dry", "--license", "mit"
    )
    data, model = (tmp_path / "dry" / name / "README.md" for name in ("dataset", "models/round-001"))
    assert (matter(data)["license"], matter(data)["configs"][0]["config_name"]) == ("mit", "sft")
    assert 'load_dataset("me/sums", "sft-round-002", split="train")' in data.read_text()
    assert "| round 1 | 55.4% [51.0%, 59.8%] | 500 |" in data.read_text()
    facts = matter(model)
    assert facts["datasets"] == ["me/sums"] and facts["library_name"] == "transformers"
    results = facts["model-index"][0]["results"]
    assert [r["metrics"][0]["value"] for r in results] == [55.4, 55.4]
    assert "22 real and 102 synthetic" in model.read_text()
    everything = "".join(p.read_text() for p in (tmp_path / "dry").rglob("*") if p.suffix in (".md", ".yaml"))
    assert not [s for s in ("sk-secret", "tenant=abc", "/home/me", str(tmp_path)) if s in everything]
    assert "https://host/v1" in everything and "path: t.jsonl" in everything


def test_what_is_pushed_loads_from_the_hub(run: RunDir, tmp_path: Path):
    script = (
        "import sys; from typer.testing import CliRunner; from jobs.cli import app\n"
        "for _ in range(2):\n"
        "    said = CliRunner().invoke(app, ['push', sys.argv[1], '--to', 'me/sums', '--models'])\n"
        "    assert said.exit_code == 0, said.output\n"
        "from datasets import load_dataset\n"
        "print([load_dataset('me/sums', c, split='train').num_rows for c in (None, 'sft-round-001')])\n"
    )
    with serving() as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        env |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script, run.root], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "[3, 2]"
        assert hub.private == {("dataset", "me/sums"): True, ("model", "me/sums"): True}
        models = hub.repos["model", "me/sums"]
        assert models["main"] == models["round-001"] and "model.safetensors" in models["main"]
    assert not list(run.local.glob(".push-*"))


def test_mistakes(run: RunDir, selfloop, monkeypatch, tmp_path: Path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for arguments, why in (
        (["--to", "me/sums"], "HF_TOKEN is not set"),
        (["--to", "sums", "--dry-run", tmp_path / "d"], "expected OWNER/NAME"),
        (["--to", "me/../x", "--dry-run", tmp_path / "d"], "--to me/../x"),
        (["--to", "me/sums", "--dry-run", run.root], "is not empty"),
    ):
        said = selfloop("push", run.root, *arguments)
        assert said.status == 2 and why in said.text, said.text
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert "HF_HUB_OFFLINE" in selfloop("push", run.root, "--to", "me/sums").text
    shutil.rmtree(run.path("models"))
    said = selfloop("push", run.root, "--to", "me/sums", "--models", "--dry-run", tmp_path / "d")
    assert said.status == 2 and "no trained model" in said.text and not (tmp_path / "d").exists()
    shutil.rmtree(run.path("datasets"))
    said = selfloop("push", run.root, "--to", "me/sums", "--dry-run", tmp_path / "d")
    assert said.status == 2 and "nothing to push" in said.text
