"""reasoning_gym: the same tasks for the same seed, entries reach their scorer intact, no answer is run."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import orjson
import pytest
from reasoning_gym.factory import DATASETS

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks import BadRow, RawRow, Repeat, read_tasks
from stages.tasks.entries import pack, unpack
from stages.tasks.fixed_process import in_fixed_process
from stages.tasks.gym import generate, make_dataset
from stages.tasks.scoring import score_answer

COMPOSITE = {
    "datasets": [
        {"name": "arc_agi", "weight": 1, "config": {}},
        {"name": "countdown", "weight": 1, "config": {}},
    ]
}
SLOW = {"rearc", "knight_swap", "arc_agi", "codeio"}  # generators that take seconds for their first task


def gym(name: str, limit: int, **options) -> Source:
    return Source(source="reasoning_gym", dataset=name, limit=limit, options=options)


def test_tasks_are_made_and_scored() -> None:
    tasks = read_tasks(gym("chain_sum", 30, min_terms=2, max_terms=2), 3)
    assert len(tasks.rows) == 30
    payload = orjson.loads(orjson.dumps(tasks.rows[0].payload))
    assert payload["source"] == {
        "source": "reasoning_gym",
        "dataset": "chain_sum",
        "options": {"min_terms": 2, "max_terms": 2},
        "where": "chain_sum[0]",
    }
    assert score_answer(payload, payload["answer"]) == 1.0
    assert score_answer(payload, "no idea") < 1.0
    assert score_answer(payload, None) == 0.0


def test_seed_is_the_recipes_unless_the_options_have_one() -> None:
    first, other, own = (
        list(generate(s, seed))
        for s, seed in ((gym("gcd", 2), 1), (gym("gcd", 2), 2), (gym("gcd", 2, seed=1), 2))
    )
    assert first == own != other


@pytest.mark.slow
def test_tasks_do_not_depend_on_the_hash_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for hash_seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        ids.append([row.id for row in read_tasks(gym("isomorphic_strings", 5), 0).rows])
        assert os.environ["PYTHONHASHSEED"] == hash_seed
    assert ids[0] == ids[1]


def test_questions_made_twice_are_counted_and_made_up_for() -> None:
    tasks = read_tasks(gym("chain_sum", 60, min_terms=2, max_terms=2, min_digits=1, max_digits=1), 0)
    assert len(tasks.rows) == 60
    assert tasks.duplicates > 0
    assert tasks.rejected == []
    few = [type(row) for row in generate(gym("coin_flip", 40, min_trials=3, max_trials=3), 0)]
    assert 0 < few.count(RawRow) < 40
    assert few.count(RawRow) + few.count(Repeat) == len(few) <= 3 * 40


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (gym("chain_sums", 1), "no dataset 'chain_sums'. Did you mean 'chain_sum'?"),
        (gym("zzz", 1), "There are: ab, "),
        (Source(source="reasoning_gym"), "needs the name of a dataset"),
        (gym("chain_sum", 1, max_term=3), "no option 'max_term'. Did you mean 'max_terms'? Its options: "),
        (
            gym("chain_sum", 1, min_terms=9, max_terms=2),
            "cannot be created with options {'min_terms': 9, 'max_terms': 2}: max_terms",
        ),
        (gym("chain_sum", 1, min_terms="two"), "cannot be created with options"),
        (gym("chain_sum", 1, size=5), "leave options.size out"),
        (
            gym("composite", 1, datasets=[{"name": "nope", "weight": 1, "config": {}}]),
            "'nope' not registered",
        ),
    ],
)
def test_what_cannot_be_made(source: Source, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        list(generate(source, 0))
    assert problem in str(caught.value)


@pytest.mark.slow
def test_an_error_of_the_process_that_makes_the_tasks_is_raised_here() -> None:
    with pytest.raises(DataError, match="no option 'max_term'"):
        read_tasks(gym("chain_sum", 1, max_term=3), 0)


@pytest.mark.slow
def test_a_process_that_dies_is_no_end_of_the_tasks() -> None:
    with pytest.raises(DataError, match="die ended with code 3"):
        list(in_fixed_process(f"{__name__}:die", Source(source="own"), 3))


def die(source: Source, seed: int) -> Iterator[RawRow]:
    """A source whose process is lost after one row, as to the kernel's out-of-memory killer."""
    yield RawRow("own[0]", {})
    os._exit(seed)


def test_a_generator_that_fails_gives_a_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, index: int) -> dict:
        if index == 1:
            raise ZeroDivisionError("by zero")
        return {"question": f"{index}?", "answer": "1", "metadata": {}}

    monkeypatch.setattr(DATASETS["chain_sum"][0], "__getitem__", fail)
    assert [type(row) for row in generate(gym("chain_sum", 3), 0)][:3] == [RawRow, BadRow, RawRow]


@pytest.mark.parametrize("name", sorted(set(DATASETS) - SLOW))
def test_every_dataset_scores_its_right_answer_after_json(name: str) -> None:
    options = COMPOSITE if name == "composite" else {}
    entry = make_dataset(name, {**options, "seed": 7, "size": 5})[0]
    stored = orjson.loads(orjson.dumps(pack(entry)))
    assert unpack(stored) == entry
    if entry["answer"] is not None:
        assert (
            score_answer({"entry": stored, "source": {"dataset": name, "options": options}}, entry["answer"])
            == 1.0
        )


def test_boards_are_tuples_again_when_they_are_scored() -> None:
    entry = make_dataset("arc_agi", {"seed": 1, "size": 1})[0]
    payload = {"entry": orjson.loads(orjson.dumps(pack(entry))), "source": {"dataset": "arc_agi"}}
    assert isinstance(entry["metadata"]["output"], tuple)
    assert score_answer(payload, entry["answer"]) == 1.0


def test_values_that_json_does_not_have() -> None:
    value = {
        1: (1, [2.5, None]),
        "s": {3, 4},
        "f": Fraction(1, 3),
        "big": 10**30,
        "inf": float("inf"),
        "c": 1 + 2j,
        "x": {"$tuple": 5},
        "f2": frozenset(),
    }
    assert unpack(orjson.loads(orjson.dumps(pack(value)))) == value
    with pytest.raises(DataError, match=r"entry\.metadata\.p\[0\] is of type PosixPath"):
        pack({"metadata": {"p": [Path("x")]}})


@pytest.mark.parametrize(
    "name",
    [
        "countdown",
        "simple_integration",
        "polynomial_multiplication",
        "n_queens",
        "binary_matrix",
        "spiral_matrix",
        "string_insertion",
    ],
)
@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}, 'w')",
        "__import__('pathlib').Path({path!r}).touch()",
        "exec(chr(49))",
        "[open({path!r}, 'w')]",
    ],
)
def test_an_answer_is_never_run(name: str, code: str, tmp_path: Path) -> None:
    entry = make_dataset(name, {"seed": 1, "size": 1})[0]
    payload = {"entry": pack(entry), "source": {"dataset": name, "options": {}}}
    assert score_answer(payload, code.format(path=str(tmp_path / "made"))) < 1.0
    assert not (tmp_path / "made").exists()


def test_a_task_without_scorer() -> None:
    with pytest.raises(DataError, match="task t1 is not from reasoning_gym"):
        score_answer({"task_id": "t1", "source": {"source": "jsonl"}, "entry": None}, "4")
