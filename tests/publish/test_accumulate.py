"""Mixture policies: which rounds are in, what a draw takes, and that the order of rounds changes nothing."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import Accumulate
from pipeline.errors import DataError, StageError
from pipeline.publish.accumulate import Mixture, Part, mixture
from pipeline.publish.dataset import publish, shares
from pipeline.publish.loading import load_mixture

FOLDERS = {number: f"d/{number}" for number in range(5)}


def rounds_of(policy: str, keep_real: bool, round: int = 3, available: dict = FOLDERS) -> list[int]:
    chosen = mixture(Accumulate(policy=policy, keep_real=keep_real), round, available)
    assert all(part.path == available[part.round] for part in chosen.parts)
    return [part.round for part in chosen.parts]


@pytest.mark.parametrize(
    ("policy", "kept", "free"),
    [
        ("all", [0, 1, 2, 3], [0, 1, 2, 3]),
        ("replace", [0, 3], [3]),
        ("window:2", [0, 2, 3], [2, 3]),
        ("window:9", [0, 1, 2, 3], [0, 1, 2, 3]),
        ("subsample:5", [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_rounds_of_a_policy(policy, kept, free):
    assert rounds_of(policy, True) == kept and rounds_of(policy, False) == free
    assert rounds_of(policy, True, 0) == [0]  # before the first round: the demonstrations


@pytest.mark.parametrize(
    ("policy", "keep_real", "expected"),
    [
        ("replace", True, [0, 1, 4]),
        ("replace", False, [1, 4]),
        ("window:2", False, [1, 3, 4]),
        ("all", True, [0, 1, 2, 3, 4]),
    ],
)
def test_rounds_that_are_kept_whatever_the_policy(policy, keep_real, expected):
    chosen = mixture(Accumulate(policy=policy, keep_real=keep_real, keep_rounds=[1]), 4, FOLDERS)
    assert [part.round for part in chosen.parts] == expected and chosen.keep_rounds == (1,)
    assert [
        part.round
        for part in mixture(Accumulate(policy=policy, keep_real=True, keep_rounds=[1]), 0, FOLDERS).parts
    ] == [0]


@pytest.mark.parametrize(
    ("policy", "keep_real", "keep_rounds", "expected"),
    [
        ("all", True, [], [0, 1, 2, 3]),
        ("subsample:7", False, [], [0, 1, 2, 3]),
        ("replace", True, [], [0]),
        ("replace", False, [], []),
        ("window:3", True, [2, 9], [0, 2]),
    ],
)
def test_rounds_that_a_later_one_is_never_without(policy, keep_real, keep_rounds, expected):
    settings = Accumulate(policy=policy, keep_real=keep_real, keep_rounds=keep_rounds)
    assert settings.always_with(4) == expected
    folders = {number: f"d/{number}" for number in range(10)}
    mixtures = [{part.round for part in mixture(settings, r, folders).parts} for r in range(4, 10)]
    with_4 = [rounds for rounds in mixtures if 4 in rounds]
    assert set(expected) == {r for r in range(4) if all(r in rounds for rounds in with_4)}


def test_a_window_uses_what_two_of_its_rounds_say_once(tmp_path, facts, rows):
    """The copy of the newest round, white space aside: the older one leaves the window first."""
    first, again = (
        rows(4, 1),
        [{**row, "src_round": 2, "row_id": f"again-{i}"} for i, row in enumerate(rows(3, 1))],
    )
    again[0]["completion"] = [
        {"role": "assistant", "content": "  " + first[0]["completion"][0]["content"] + "\n"}
    ]
    again[1]["completion"] = [{"role": "assistant", "content": "something else"}]
    for number, some in ((1, first), (2, again)):
        publish(some, tmp_path / str(number), facts, 0)
    folders = {number: tmp_path / str(number) for number in (1, 2)}

    def used(policy: str, distinct: bool = True) -> set[str]:
        return set(load_mixture(mixture(Accumulate(policy=policy), 2, folders, distinct), 0)["row_id"])

    assert used("window:2") == {"again-0", "again-1", "again-2", "r1-1", "r1-3"}
    assert used("replace") == {f"again-{i}" for i in range(3)}
    assert len(used("window:2", distinct=False)) == len(used("all")) == 7


def test_without_demonstrations_there_is_no_round_0():
    assert rounds_of("all", True, 2, {1: "a", 2: "b"}) == [1, 2]


def test_a_missing_round_and_nothing_at_all_are_errors():
    with pytest.raises(StageError, match=r"rounds \[2\] for round 3"):
        rounds_of("all", True, 3, {0: "a", 1: "b", 3: "c"})
    with pytest.raises(StageError, match="nothing to train on"):
        rounds_of("all", True, 0, {})


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    from tests.publish.conftest import FACTS, make_rows

    folder = tmp_path_factory.mktemp("rounds")
    for number, count in ((0, 8), (1, 20), (2, 0), (3, 12)):
        publish(make_rows(count, number, "synthetic" if number else "real"), folder / str(number), FACTS, 0)
    return tuple(Part(str(folder / str(number)), number) for number in range(4))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 60),
    keep_real=st.booleans(),
    seed=st.integers(0, 3),
    rng=st.randoms(use_true_random=False),
)
def test_a_draw_has_its_size_and_no_order(parts, size, keep_real, seed, rng: random.Random):
    shuffled = list(parts)
    rng.shuffle(shuffled)
    drawn = load_mixture(Mixture(parts, size, keep_real), seed)
    assert drawn["row_id"][:] == load_mixture(Mixture(tuple(shuffled), size, keep_real), seed)["row_id"][:]
    assert len(set(drawn["row_id"])) == len(drawn) == min(40, max(size, 8) if keep_real else size)
    if keep_real:
        assert shares(drawn)["real"] == 8
    larger = load_mixture(Mixture(parts, size + 5, keep_real), seed)
    assert set(drawn["row_id"]) <= set(larger["row_id"])


def test_general_text_of_later_rounds_is_no_demonstration(tmp_path):
    from tests.publish.conftest import FACTS, make_rows

    publish(make_rows(6, 0, "real"), tmp_path / "0", FACTS, 0)
    general = [{**row, "row_id": f"general-{row['row_id']}"} for row in make_rows(30, 1, "real")]
    publish([*general, *make_rows(30, 1, "synthetic")], tmp_path / "1", FACTS, 0)
    parts = tuple(Part(str(tmp_path / str(n)), n) for n in (0, 1))
    drawn = load_mixture(Mixture(parts, 20), 0)
    rounds = [row["src_round"] for row in drawn]
    assert rounds.count(0) == 6 and len(drawn) == 20 and 0 < list(drawn["src_kind"]).count("synthetic") < 14


def test_a_draw_leaves_kept_rounds_whole(parts):
    drawn = shares(load_mixture(Mixture(parts, 30, True, (3,)), 0))
    assert drawn["rounds"] == {"0": 8, "1": 10, "3": 12}
    assert shares(load_mixture(Mixture(parts, 5, False, (3,)), 0))["rounds"] == {"3": 12}, (
        "more than the draw asks for, but all of them"
    )


def test_all_rows_shuffled_by_seed(parts):
    one, other = (load_mixture(Mixture(parts), seed)["row_id"][:] for seed in (0, 1))
    assert sorted(one) == sorted(other) and one != other and len(one) == 40
    assert shares(load_mixture(Mixture(parts), 0)) == {
        "real": 8,
        "synthetic": 32,
        "rounds": {"0": 8, "1": 20, "3": 12},
    }


def test_empty_and_wrong_folders_are_told_apart(parts, tmp_path):
    with pytest.raises(StageError, match="every dataset of the mixture is empty"):
        load_mixture(Mixture((parts[2],)), 0)
    with pytest.raises(DataError, match="not a published dataset of round 7"):
        load_mixture(Mixture((Part(str(tmp_path), 7),)), 0)
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})}).save_to_disk(
        str(tmp_path / "t")
    )
    with pytest.raises(DataError, match="schema"):
        load_mixture(Mixture((Part(str(tmp_path / "t"), 1),)), 0)
