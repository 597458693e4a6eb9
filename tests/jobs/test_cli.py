"""The command line: every job is a command, help imports none of them, hints name the module."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from jobs import cli
from jobs.common import as_module, existing_runs, job, say
from pipeline.config import dump_recipe
from pipeline.errors import SelfloopError
from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from tests.conftest import tiny_recipe
from tests.stages.reports.evaluated import evaluated

NOT_JOBS = {
    "__init__",
    "dataset_folder",
    "__main__",
    "cli",
    "common",
    "guess",
    "planning",
    "stage",
    "trees",
    "rendering",
    "showing",
}


def test_every_job_is_a_command():
    modules = {p.stem for p in Path(PROJECT, "jobs").glob("*.py")} - NOT_JOBS
    assert modules == set(cli.COMMANDS)
    for name in cli.COMMANDS:
        job = getattr(importlib.import_module(f"jobs.{name}"), name)
        assert job.__doc__ and callable(job)


def test_help_imports_no_job():
    slow = ("ray", "torch", "pyarrow", "jobs.common")
    code = (
        "import sys; from jobs.cli import app; app(['--help'], standalone_mode=False); "
        f"print([m for m in {slow} if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert shown.rstrip().endswith("[]")
    assert all(name in shown for name in cli.COMMANDS)


def test_python_m_jobs():
    shown = subprocess.run(
        [sys.executable, "-m", "jobs", "--version"], cwd=PROJECT, capture_output=True, text=True
    )
    assert shown.returncode == 0 and shown.stdout.startswith("selfloop ")
    help_ = subprocess.run(
        [sys.executable, "-m", "jobs", "trace", "--help"], cwd=PROJECT, capture_output=True, text=True
    )
    assert "python -m jobs trace" in help_.stdout and "ROW_ID" in help_.stdout


def test_the_module_and_the_command_are_the_same(built):
    arguments = ["--run", built.run.root, "--stage", "filter", "--json"]
    module = subprocess.run(
        [sys.executable, "-m", "jobs.inspect", *arguments], cwd=PROJECT, capture_output=True, text=True
    )
    command = subprocess.run(
        [sys.executable, "-m", "jobs", "inspect", *arguments], cwd=PROJECT, capture_output=True, text=True
    )
    assert module.returncode == 0 and module.stdout == command.stdout


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_each_command_has_help(selfloop, name):
    shown = selfloop(name, "--help")
    assert shown.status == 0 and "--help" in shown.text


def test_an_unknown_command(selfloop):
    found = selfloop("generat")
    assert found.status == 2 and "generat" in found.text


def test_a_mistake_is_a_message(selfloop, tmp_path: Path):
    found = selfloop("iterate", tmp_path / "none.yaml")
    assert found.status == 2 and "no such recipe" in found.text and "Traceback" not in found.text


@pytest.mark.parametrize(
    ("argv", "module"),
    [
        (["/bin/selfloop", "train", "--round", "1"], ["train", "--round", "1"]),
        (["/x/jobs/__main__.py", "train"], ["train"]),
        (["/x/jobs/train.py", "--round", "1"], ["/x/jobs/train.py", "--round", "1"]),
    ],
)
def test_hints_name_the_module(argv, module):
    assert as_module(argv) == module


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--status"], "needs a running cluster"),
        (["--stop", "--name", "warm"], "needs a running cluster"),
        (["--stop"], "--name is missing"),
        (["--stop", "--status"], "give one of them"),
        (["--name", "warm"], "RECIPE is missing"),
        (["--name", "a/b", "x.yaml"], "expected letters, digits"),
    ],
)
def test_serve_says_what_it_needs(selfloop, arguments, says):
    found = selfloop("serve", *arguments)
    assert found.status == 2 and says in found.text


def test_serve_keeps_only_vllm_warm(selfloop, tmp_path: Path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\nengine: {kind: scripted}\ntasks: {source: jsonl, path: x.jsonl}\n")
    assert "engine.kind is scripted" in selfloop("serve", recipe, "--name", "warm").text
    assert (
        "needs a running cluster"
        in selfloop("serve", recipe, "--name", "warm", "--set", "engine={kind: vllm}").text
    )


@pytest.mark.parametrize("below", ["file/x.png", "no/such/x.png", "."])
def test_an_impossible_path_is_a_message(
    tmp_path: Path, below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(typer.Exit) as e:
        job(lambda: (tmp_path / below).write_text(""))()
    assert e.value.exit_code == 2
    shown = capsys.readouterr()
    assert f"error: {tmp_path / below}: " in "".join(shown.err.splitlines()) and shown.out == ""


def test_a_run_named_twice_is_not_two_seeds(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.freeze(tiny_recipe())
    (tmp_path / "same").symlink_to(tmp_path / "run")
    assert len(existing_runs([run.root])) == 1
    for again in (f"{run.root}/.", str(tmp_path / "same")):
        with pytest.raises(SelfloopError, match="named twice"):
            existing_runs([run.root, again])


def test_errors_leave_stdout_clean(selfloop, tmp_path: Path) -> None:
    failed = selfloop("inspect", "--run", tmp_path, "--json")
    assert failed.status == 2 and failed.out == "" and "run.yaml is missing" in failed.text


def test_compare_prints_json_only(selfloop, tmp_path: Path) -> None:
    runs = [
        evaluated(
            tmp_path / name, {0: {"a": False, "b": True}, 1: {"a": True, "b": False}}, method=options
        ).root
        for name, options in (("one", {"name": "direct"}), ("two", {"name": "direct", "samples": 2}))
    ]
    printed = selfloop("compare", *runs, "--flips", "--json")
    first, second = json.loads(printed.out)
    assert printed.status == 0 and second["against"][0]["arm"] == first["arm"]
    assert first["flips"][0]["won_questions"] == [
        {
            "task_id": "a",
            "question": "What is a?",
            "truth": "the a",
            "old": "It is no a",
            "new": "It is the a",
        }
    ]
    tables = selfloop("compare", *runs, "--flips", "--limit", "1").out
    assert "arm against arm, paired by question" in tables and "+1 -1" in tables and "It is no b" in tables
    assert "What is" not in selfloop("compare", *runs).out


@pytest.mark.parametrize("command", ["branch", "inspect", "scaling"])
def test_output_goes_to_and_the_old_word_is_still_read(selfloop, command: str, tmp_path: Path) -> None:
    options = {name: p for p in cli.load(command).params for name in p.opts}
    assert options["--out"].hidden and not options["--to"].hidden
    run = RunDir(tmp_path / "run")
    run.freeze(tiny_recipe())
    where = ["--run", run.root] if command == "inspect" else [run.root]
    both = selfloop(command, *where, "--to", "a", "--out", "b")
    assert both.status == 2 and "--to a and --out b are the same option" in both.text
    assert "note: --out is now called --to" in selfloop(command, *where, "--out", tmp_path / "x").text


@pytest.fixture
def wrong(tmp_path: Path) -> dict[str, str]:
    """Things that are no run directory."""
    whole = dump_recipe(tiny_recipe(engine={"kind": "vllm"}))
    contents = {"cut": whole[: whole.index("runner:")], "empty": "", "list": "- 1\n", "torn": whole[:-3]}
    contents |= {"half": whole[: whole.index("  part_rows")]}
    for name, text in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.yaml").write_text(text)
    (tmp_path / "folder" / "run.yaml").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = [*contents, "folder", "file", "nothing", "loop", "absent", "file/below"]
    return {name: str(tmp_path / name) for name in names} | {"": ""}


READERS = [
    ("inspect", "--run", "RUN"),
    ("inspect", "--run", "RUN", "--stage", "generate", "--json"),
    ("trace", "--run", "RUN", "abcdef"),
    ("compare", "RUN"),
    ("scaling", "RUN"),
    ("branch", "RUN", "--to", "TO"),
    ("reverify", "RUN", "--to", "TO"),
    *((stage, "--run", "RUN", "--round", "1") for stage in ("generate", "verify", "publish", "train")),
    ("evaluate", "--run", "RUN", "--base"),
]


@pytest.mark.parametrize("arguments", READERS, ids=lambda a: a[0])
def test_what_is_no_run_is_one_sentence(
    selfloop, wrong: dict[str, str], arguments: tuple[str, ...], tmp_path: Path
) -> None:
    for name, run in wrong.items():
        filled = [{"RUN": run, "TO": tmp_path / "to"}.get(a, a) for a in arguments]
        found = selfloop(*filled)
        assert found.status == 2 and found.out == "" and found.text.startswith("error: "), (name, found.text)
        assert "Traceback" not in found.text
        if name in ("cut", "torn", "half") and arguments[0] != "trace":
            assert "the file is cut off" in found.text
    assert not (tmp_path / "to").exists()


def test_what_is_no_recipe_is_one_sentence(selfloop, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.yaml").touch()
    says = {
        "folder": "is a folder",
        "binary.yaml": "UTF-8",
        "empty.yaml": "expected a mapping",
        "no.yaml": "no such",
    }
    for name, words in says.items():
        for command in (
            ["iterate", "RECIPE", "--plan"],
            ["recipes", "RECIPE"],
            ["serve", "RECIPE", "--name", "x"],
        ):
            found = selfloop(*(tmp_path / name if a == "RECIPE" else a for a in command))
            if name == "empty.yaml" and command[0] == "recipes":
                continue
            assert found.status == 2 and found.out == "" and words in found.text, (name, command, found.text)
    assert "RECIPE is empty" in selfloop("iterate", "").text


def test_settings_that_cannot_be(selfloop) -> None:
    says = {
        "tasks.source=nope": "tasks.source: unknown source 'nope'",
        "held_out={source: {source: 'a:b'}}": "held_out.source.source: source 'a:b' points at 'a:b', which",
        "method.name=nope": "method.name: unknown method 'nope'",
        "engine.kind=a:b": "engine.kind=a:b: engine.kind",  # not an emoji
        "train.learning_rate=.inf": "finite number",
        "sampling.temperature=.inf": "finite number",
        "train.epochs=.nan": "train.epochs",
        "rounds=1e9": "valid integer",
    }
    for override, words in says.items():
        found = selfloop("iterate", "quickstart", "--print-config", "--set", override)
        assert found.status == 2 and found.out == "" and words in found.text, found.text
    found = selfloop("iterate", "quickstart", "--print-config", "--set", "engine=null")
    assert found.status == 2 and "engine" in found.text


def test_a_setting_of_a_section_that_the_recipe_lacks(selfloop, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\ntasks: {source: jsonl, path: x.jsonl}\n")
    for override, value in (("engine.replicas=2", "replicas: 2"), ("train.lora.r=4", "r: 4")):
        shown = selfloop("iterate", recipe, "--print-config", "--set", override)
        assert shown.status == 0 and value in shown.out
    wrong = selfloop("iterate", recipe, "--print-config", "--set", "engine.replica=2")
    assert wrong.status == 2 and "did you mean 'replicas'" in wrong.text


def test_an_empty_run_is_not_the_default_one(selfloop) -> None:
    for more in ([], ["--plan"]):
        found = selfloop("iterate", "quickstart", "--run", "", *more)
        assert found.status == 2 and "--run is empty" in found.text


def test_progress_is_not_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    say("run: [here] :bee:")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err == "run: [here] :bee:\n"
