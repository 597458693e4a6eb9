"""kill -9 of the driver and its workers while answers are being judged.

The same command repeats no finished request.
"""

import shutil
from pathlib import Path

import pytest

from pipeline.config import dump_recipe
from tests.faults.driver import Driver, kill_all, logged
from tests.stages.judges.test_judged_loop import open_recipe

IN_FLIGHT = 6


@pytest.mark.timeout(300)
def test_killed_while_judging(tmp_path: Path, local_ray: object) -> None:
    engine = {
        "kind": "scripted",
        "answers": "tests.stages.judges.scripted:speaks",
        "latency": 0.15,
        "tokens": 0,
    }
    verifier = {"kind": "judge", "threshold": 6, "top_share": 0.75}
    recipe = open_recipe(tmp_path, engine=engine, verifier=verifier, runner={"in_flight": IN_FLIGHT})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    alone, killed = Driver(tmp_path, "alone", "verify"), Driver(tmp_path, "killed", "verify")
    try:
        for job in ("generate", "critique", "filter"):
            alone.finish(job=job)
        shutil.copytree(alone.run.root, killed.run.root)
        alone.finish()
        assert killed.kill_when(lambda stage: logged(stage) >= 12, workers=True)
        killed.nothing_left()
        before = killed.log()
        assert 12 <= sum(before.values()) < sum(alone.log().values()), "in the middle of the judgements"
        killed.finish()
    finally:
        kill_all(killed.mark)
    assert killed.ids() == alone.ids() and killed.log() == alone.log()
    assert set(killed.log().values()) == {1}, "no finished request is sent again"
    done, undisturbed = (driver.run.manifest(str(driver.stage)) for driver in (killed, alone))
    assert (
        done.requests.from_log >= 12 - IN_FLIGHT and done.extra["verifiers"] == undisturbed.extra["verifiers"]
    )
