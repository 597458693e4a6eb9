"""Other verifiers and filters over the stored answers of a run: which verdicts change; nothing is asked."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from jobs.reverify import _say_what_next
from pipeline.config import Recipe, build_recipe, dump_recipe
from pipeline.errors import SelfloopError
from pipeline.generations import generated_rounds, take_over
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import files, request_log
from stages.rounds.loop import Loop
from stages.rounds.reverify import changes, fates, is_judged, judge_again
from stages.steps.verifiers import Verdict
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.jobs.conftest import Built, built, selfloop
from tests.stages.judges.asked import score, shown_texts
from tests.training.conftest import tiny_model

__all__ = ["built", "selfloop", "tiny_model"]


def short(payload: dict[str, Any]) -> Verdict:
    """A verifier that keeps answers about numbers below ten."""
    right = len(payload["answer"]) == 1
    return Verdict(right, "short", "" if right else "too_large", None, f"the truth is {payload['answer']}")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, in_process: None) -> RunDir:
    """A run whose round 1 is verified, and whose round 0 is not trained: an endpoint would have answered."""
    folder = tmp_path_factory.mktemp("reverify")
    tasks = [{"question": f"What is {i} + {i % 7}?", "answer": i + i % 7} for i in range(30)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(r) + "\n" for r in tasks))
    run = RunDir(folder / "run")
    recipe = tiny_recipe(
        model={"base": str(tiny_model)},
        engine={"kind": "scripted", "answers": "tests.scripted_answers:sums"},
        tasks={"source": "jsonl", "path": str(folder / "tasks.jsonl")},
        held_out={"count": 5},
    )
    freeze(run, run.freeze(recipe))

    async def stages() -> None:
        async with Loop(run, recipe) as loop:
            for name in STAGES:
                await loop.stage(1, name)

    asyncio.run(stages())
    return run


def changed(run: RunDir, **sections: Any) -> Recipe:
    return build_recipe({**run.recipe().model_dump(mode="json"), **sections})


def again(run: RunDir, target: RunDir, recipe: Recipe) -> dict[str, Any]:
    take_over(run, target, recipe, [1])
    asyncio.run(judge_again(run, target, recipe, [1]))
    return changes(run, target, 1)


def snapshot(run: RunDir) -> dict[str, tuple[int, int]]:
    return {
        str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in Path(run.root).rglob("*") if p.is_file()
    }


def test_another_verifier_and_another_filter(judged: RunDir, tmp_path: Path, selfloop: Any) -> None:
    before, target = snapshot(judged), RunDir(tmp_path / "other")
    recipe = changed(
        judged, verifier="tests.stages.rounds.test_reverify:short", filters={"own": [f"{__name__}:no_seven"]}
    )
    found = again(judged, target, recipe)
    assert snapshot(judged) == before, "the source is not written to"
    assert found["requests"] == 0 and found["answers"] == 100
    old, new = fates(judged, 1), fates(target, 1)
    right = {i for i, fate in old.items() if fate.verdict == "kept"}
    assert len(right) == judged.manifest(judged.stage(1, "verify")).rows_out == found["before"]["kept"]
    assert sum(found["now"].values()) == sum(found["before"].values()) == 100
    for row in judged.rows(judged.stage(1, "critique")):
        small = len(row.payload["answer"]) == 1
        expected = "filter: seven" if "7" in row.payload["text"] else "kept" if small else "verify: too_large"
        assert new[row.id].verdict == expected
        assert old[row.id].verdict in ("kept", "verify: wrong_answer")
    kinds = {(c["before"], c["now"]): c for c in found["changed"]}
    assert ("kept", "kept") not in kinds
    assert kinds["kept", "verify: too_large"]["answers"] == sum(
        new[i].verdict == "verify: too_large" for i in right
    )
    gone = kinds["kept", "verify: too_large"]["examples"]
    assert len(gone) == 3 and gone[0]["row"] in right and gone[0]["now"].startswith("the truth is ")
    gained = kinds["verify: wrong_answer", "kept"]["examples"][0]
    assert "expected" in gained["before"] and gained["now"] == "" and "Answer:" in gained["answer"]
    assert target.branched_from() == 0 and target.manifest(target.stage(1, "generate")) is not None
    settings = [f"verifier={__name__}:short", f"filters.own=[{__name__}:no_seven]"]
    arguments = [judged.root, "--to", target.root, *(a for s in settings for a in ("--set", s)), "-n", "1"]
    as_json = selfloop("reverify", *arguments, "--json")
    assert json.loads(as_json.out)["rounds"] == [changes(judged, target, 1, 1)]
    shown = selfloop("reverify", *arguments)  # what is done is not done again, so no Ray is started
    assert shown.status == 0 and "0 answers generated; filter and verify sent 0 requests" in shown.out
    assert "round 1: kept -> verify: too_large" in shown.out and "now       the truth is " in shown.out
    assert f"selfloop iterate {target.root}/run.yaml --run {target.root}" in shown.text
    assert snapshot(judged) == before


def test_a_judge_is_asked_what_it_has_not_been_asked(judged: RunDir, tmp_path: Path) -> None:
    """Another threshold, or a verifier beside the judge, changes no request: the replies are there."""
    engine = {"kind": "scripted", "answers": f"{__name__}:last_digit", "tokens": 0}
    judge = {"kind": "judge", "threshold": 5, "engine": engine}
    first, second, third = (RunDir(tmp_path / str(i)) for i in range(3))
    found = again(judged, first, changed(judged, verifier=judge))
    assert found["requests"] == 100 and found["now"]["kept"] > 0
    assert (
        found["changed"][0]["examples"][0]["now"].startswith("score ") or found["changed"][0]["now"] != "kept"
    )
    stricter = again(first, second, changed(first, verifier=judge | {"threshold": 8}))
    assert (
        stricter["requests"] == 0
        and stricter["from_log"] == 100
        and 0 < stricter["now"]["kept"] < found["now"]["kept"]
    )
    assert {(c["before"], c["now"]) for c in stricter["changed"]} == {("kept", "verify: low_score")}
    logs = [
        sorted(r["key"] for r in request_log.records(files.join(run.stage(1, "verify"), "requests")))
        for run in (first, second)
    ]
    assert logs[0] == logs[1], "the log has what was asked, whoever asked it first"
    with_rubric = judge | {"rubric": "Is it short?"}
    assert again(second, third, changed(second, verifier=with_rubric))["requests"] == 100


def last_digit(request: Any, index: int) -> str:
    return score(max(1, int(shown_texts(request)[0].strip()[-1])))


def no_seven(row: Any) -> tuple[str, str] | None:
    return ("seven", "has a seven") if "7" in row.payload["text"] else None


def test_nothing_changes_against_itself(judged: RunDir) -> None:
    found = changes(judged, judged, 1)
    assert found["changed"] == [] and found["before"] == found["now"]


def test_rows_that_a_vote_drops_and_rows_that_fail_are_followed_to_their_answers(built: Built) -> None:
    found = fates(built.run, 1)
    assert {(name, i): found[row.id].verdict for (name, i), row in built.generated.items()} == {
        ("t1", 0): "kept",
        ("t1", 1): "verify: wrong_answer",
        ("t2", 0): "verify: ValueError",
        ("t2", 1): "filter: empty_answer",
        ("t3", 0): "verify: minority",
        ("t3", 1): "verify: minority",
    }
    assert found[built.generated["t3", 0].id].detail == "outvoted"


def test_before_the_source_is_judged_only_the_new_verdicts_are_told(built: Built, tmp_path: Path) -> None:
    source = RunDir(shutil.copytree(built.run.root, tmp_path / "source"))
    shutil.rmtree(source.stage(1, "verify"))
    found = changes(source, built.run, 1)
    assert found["before"] is None and found["changed"] == [] and found["now"]["kept"] == 1


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"sampling": {"temperature": 0.1}}, "sampling.temperature"),
        ({"method": {"name": "direct", "samples": 2}}, "method.samples: 4 -> 2"),
        ({"tasks": {"source": "jsonl", "path": "other.jsonl"}}, "tasks.path"),
        (
            {"prompts": {"direct/solve": "[[user]]\n{{ question }}"}},
            "prompts.direct/solve: '...' -> 'another text'",
        ),
        ({"engine": {"kind": "scripted", "answers": "hash"}}, "engine.answers"),
        ({"seed": 5}, "seed: 0 -> 5"),
        ({"questions_per_round": 7}, "questions_per_round"),
    ],
)
def test_settings_of_other_answers_are_refused(
    judged: RunDir, tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(SelfloopError, match=f"other answers(.|\n)*{said}"):
        take_over(judged, RunDir(tmp_path / "other"), changed(judged, **sections), [1])
    assert not (tmp_path / "other").exists()


def test_settings_of_later_stages_may_differ(judged: RunDir, tmp_path: Path) -> None:
    method = {"name": "direct", "keep_per_question": 1}
    recipe = changed(judged, method=method, train={"epochs": 3}, rounds=5)
    other = RunDir(tmp_path / "other")
    take_over(judged, other, recipe, [1])
    assert other.recipe().rounds == 5 and other.manifest(other.stage(1, "generate")) is not None


def test_rounds_before_are_shared_if_they_are_trained(judged: RunDir, tmp_path: Path) -> None:
    """A run that goes on from there trains the others itself, with its own filters."""
    run = RunDir(shutil.copytree(judged.root, tmp_path / "run"))
    recipe = changed(run, demonstrations=run.recipe().tasks.model_dump(mode="json"))
    files.write_bytes(run.path("run.yaml"), dump_recipe(recipe).encode())
    untrained, trained, other = (RunDir(tmp_path / name) for name in ("untrained", "trained", "other"))
    take_over(run, untrained, recipe, [1])
    assert untrained.branched_from() is None and not files.exists(untrained.path("rounds", "000"))
    files.write_json(files.join(run.stage(0, "train"), "train.json"), {})
    for path in (
        files.join(run.stage(0, "evaluate"), "manifest.json"),
        run.evaluation(0),
        run.evaluation("base"),
    ):
        files.write_json(path, {})
    take_over(run, trained, recipe, [1])
    assert trained.branched_from() == 0 and files.exists(trained.evaluation(0))
    take_over(run, other, changed(run, verifier=f"{__name__}:short"), [1])
    assert files.exists(files.join(other.stage(0, "train"), "train.json"))
    assert not any(files.exists(p) for p in (other.stage(0, "evaluate"), other.path("evaluation")))


def test_later_rounds_come_from_other_models(capsys: Any, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.freeze(tiny_recipe(engine={"kind": "vllm"}))
    for rounds, said in (
        ([1, 2, 3], "the answers of rounds 2 to 3 come from"),
        ([2], "continue with: selfloop"),
    ):
        _say_what_next(run, RunDir(tmp_path / "other"), rounds)
        assert said in " ".join(capsys.readouterr().err.split())


def test_what_is_there_is_not_overwritten(
    judged: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = changed(judged, verifier="majority_vote")
    target = RunDir(tmp_path / "other")
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(RunDir, "freeze", Mock(side_effect=KeyboardInterrupt))
        take_over(judged, target, recipe, [1])
    take_over(judged, target, recipe, [1])
    with pytest.raises(SelfloopError, match="another run here"):
        take_over(judged, target, changed(judged, filters={"min_tokens": 3}), [1])
    with pytest.raises(SelfloopError, match="must stay as it is"):
        take_over(judged, judged, recipe, [1])
    with pytest.raises(SelfloopError, match="must stay as it is"):
        take_over(judged, RunDir(judged.path("inside")), recipe, [1])
    assert not is_judged(target, 1) and generated_rounds(target) == [1]


def test_round_that_is_not_generated(judged: RunDir, tmp_path: Path) -> None:
    assert generated_rounds(judged) == [1]
    assert generated_rounds(RunDir(tmp_path)) == []
    assert files.exists(judged.stage(1, "generate"))
