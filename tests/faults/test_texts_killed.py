"""kill -9 of the driver and its workers while a document's texts are being written.

The same command ends with every key once, and none missing.
"""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.config import dump_recipe
from tests.conftest import tiny_recipe
from tests.faults.driver import Driver, logged
from tests.stages.methods.entigraph.inputs import write_inputs

TEXTS = 3 * (1 + 10 + 6)  # documents; a summary, the pairs and six triples of five entities


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    engine = {
        "kind": "scripted",
        "answers": "tests.stages.methods.entigraph.answers:writes",
        "latency": 0.4,
        "jitter": 0.9,
    }
    recipe = tiny_recipe(
        **write_inputs(tmp_path),
        engine=engine,
        method={"name": "entigraph", "max_triples": 6},
        sampling={"max_tokens": 400},
    )
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    return tmp_path


def texts(driver: Driver) -> dict[str, tuple[str, str]]:
    return {row.id: (row.payload["key"], row.payload["text"]) for row in driver.run.rows(str(driver.stage))}


@pytest.mark.timeout(300)
def test_killed_while_writing_texts(drivers: tuple[Driver, Driver]) -> None:
    alone, killed = drivers
    alone.finish()
    assert killed.kill_when(lambda stage: logged(stage) >= 12, workers=True)
    killed.nothing_left()
    assert 3 < logged(killed.stage) < sum(alone.log().values()), "in the middle of the relations"
    killed.finish()
    assert texts(killed) == texts(alone) and len(texts(alone)) == TEXTS
    keys = Counter((row.parents[0], row.payload["key"]) for row in killed.run.rows(str(killed.stage)))
    assert len(keys) == TEXTS and set(keys.values()) == {1}
    assert killed.log() == alone.log() and set(killed.log().values()) == {1}, (
        "no finished request is sent again"
    )
