"""Pairs: right against wrong, one question, within the recipe's bounds.

They are the same whatever the order, and every answer is accounted for.
"""

import random
from collections import Counter
from functools import partial
from itertools import pairwise
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Preferences
from pipeline.errors import ConfigError, StageError
from pipeline.methods import Method
from pipeline.protocols import Pair
from pipeline.rows import Dropped, Kept, Row
from pipeline.runner.steps import run_steps
from pipeline.store import files, parts
from stages.methods.direct.method import Direct
from stages.steps.decontaminate import search_for
from stages.steps.dedup import exact_duplicates
from stages.steps.grouping import by_question
from stages.steps.preferences import Rules, draw, pair_up, text_of
from tests.conftest import tiny_recipe

HELD_OUT = "how many grey geese did Tom count on his way home"


class Words:
    """Stands for a tokenizer: a token per word."""

    def apply_chat_template(
        self, conversations: Any, tokenize: bool, return_dict: bool, add_generation_prompt: bool = False
    ) -> Any:
        end = "assistant" if add_generation_prompt else "end"
        words = [
            [w for m in messages for w in (m["role"], *m["content"].split())] for messages in conversations
        ]
        return {"input_ids": [[*of_one, end] for of_one in words]}


def answer(name: str, question: str, text: str, correct: bool) -> Row:
    payload = {
        "task_id": f"task of {question}",
        "question": question,
        "text": text,
        "answer": "4",
        "answer_type": "number",
        "model": "m@1",
    }
    verdict = {"correct": True} if correct else {"correct": False, "problem": "wrong_answer"}
    return Row(name, {**payload, "verdict": verdict}, ["parent of " + name])


def rules(earlier: Any = tuple, max_length: int = 60, seed: int = 0, **options: Any) -> Rules:
    return Rules(Preferences(**options), [search_for([HELD_OUT], 5)], Words(), max_length, seed, earlier)


def outcomes(answers: list[Row], using: Rules, method: Method | None = None) -> dict[str, Kept | Dropped]:
    step = pair_up(method or Direct(tiny_recipe()), using)
    found = list(step(lambda: by_question(lambda: iter(answers), len(answers))))
    assert Counter(row.id for row, _ in found) == Counter(a.id for a in answers)
    return {row.id: outcome for row, outcome in found}


def pairs_in(found: dict[str, Kept | Dropped]) -> list[Row]:
    return [row for outcome in found.values() if isinstance(outcome, Kept) for row in outcome.rows]


def reasons(found: dict[str, Kept | Dropped]) -> dict[str, str]:
    return {
        name: outcome.reason if isinstance(outcome, Dropped) else "kept" for name, outcome in found.items()
    }


def test_a_pair_says_all_of_both_sides():
    right, wrong = answer("r", "2 + 2?", "It is 4", True), answer("w", "2 + 2?", "It is 5", False)
    [pair] = pairs_in(outcomes([wrong, right], rules()))
    assert pair.parents == ["r", "w"] and pair.payload["task_id"] == "task of 2 + 2?"
    assert pair.payload["prompt"] == Direct(tiny_recipe()).question(right)
    assert (text_of(pair.payload["chosen"]), text_of(pair.payload["rejected"])) == ("It is 4", "It is 5")
    assert (
        pair.payload["chosen_verdict"] == {"correct": True}
        and pair.payload["rejected_verdict"]["problem"] == "wrong_answer"
    )
    assert (pair.payload["chosen_model"], pair.payload["rejected_model"]) == ("m@1", "m@1")
    assert (pair.payload["tokens_chosen"], pair.payload["tokens_rejected"]) == (4, 4)


def test_every_reason_is_told_of_the_answer_at_fault():
    long, leak = "so " * 60, f"They asked {HELD_OUT}"
    found = outcomes(
        [
            answer("r1", "a", long, True),
            answer("w1", "a", "no", False),  # the right one is too long, so the wrong one has none
            answer("r2", "b", "yes yes", True),
            answer("w2", "b", leak, False),
            answer("r3", "c", "yes", True),
            answer("w3", "c", "no " * 9, False),  # 2 tokens against 10
            answer("r4", "d", "same  text", True),
            answer("w4", "d", "same text", False),
            answer("r5", "e", "yes", True),
            answer("w6", "f", "no", False),
            answer("r7", HELD_OUT.upper(), "yes", True),
            answer("w7", HELD_OUT.upper(), "no", False),
        ],
        rules(length_matched=2),
    )
    assert reasons(found) == {
        "r1": "too_long",
        "w1": "no_counterpart",
        "r2": "no_counterpart",
        "w2": "held_out_ngram",
        "r3": "length_mismatch",
        "w3": "length_mismatch",
        "r4": "same_text",
        "w4": "same_text",
        "r5": "no_counterpart",
        "w6": "no_counterpart",
        "r7": "held_out_exact",
        "w7": "held_out_exact",
    }
    assert "train.max_length is 60" in found["r1"].detail and found["w2"].raw == leak


def test_the_cap_takes_answers_not_yet_used_first():
    answers = [answer(f"r{i}", "q", f"yes {i}", True) for i in range(3)] + [
        answer(f"w{i}", "q", f"no {i}", False) for i in range(5)
    ]
    for seed in range(10):
        chosen = pairs_in(outcomes(answers, rules(pairs_per_question=3, seed=seed)))
        assert len({p.parents[0] for p in chosen}) == len({p.parents[1] for p in chosen}) == len(chosen) == 3
    assert len(pairs_in(outcomes(answers, rules(pairs_per_question=None)))) == 15
    found = outcomes(answers, rules(pairs_per_question=1))
    assert Counter(reasons(found).values()) == {"kept": 2, "over_cap": 6}
    draws = {
        tuple(sorted(p.id for p in pairs_in(outcomes(answers, rules(pairs_per_question=1, seed=s)))))
        for s in range(20)
    }
    assert len(draws) > 3, "another seed is another draw"


def test_fresh_pairs_do_not_block_each_other():
    made = [Row(f"{a}{b}", {}, [a, b]) for a in "ab" for b in "xy"]
    for seed in range(20):
        first, second = draw(made, Preferences(pairs_per_question=2), seed)
        assert not set(first.parents) & set(second.parents)


def test_a_pair_that_an_earlier_round_has_is_not_made_again():
    answers = [answer("r", "q", "yes", True), answer("w", "q", "no", False)]
    before = pairs_in(outcomes(answers, rules()))
    again = [Row(a.id + "2", a.payload, a.parents) for a in answers]
    assert set(reasons(outcomes(again, rules(lambda: before))).values()) == {"earlier_pair"}
    assert len(pairs_in(outcomes(again, rules(lambda: before, distinct=False)))) == 1


TEXTS = st.lists(
    st.sampled_from(["yes", "no", "so", "4", "5", HELD_OUT, "word " * 30]), min_size=1, max_size=4
).map(" ".join)
ANSWERS = st.lists(
    st.tuples(st.sampled_from(["q1", "q2", "q3", HELD_OUT]), TEXTS, st.booleans()), max_size=24
)


@given(
    drawn=ANSWERS,
    cap=st.none() | st.integers(1, 5),
    ratio=st.none() | st.floats(1, 3),
    limit=st.integers(8, 80),
    seed=st.integers(0, 3),
    rng=st.randoms(use_true_random=False),
)
def test_whatever_the_answers_are(
    drawn: Any, cap: int | None, ratio: float | None, limit: int, seed: int, rng: random.Random
):
    answers = [answer(f"a{i}", q, text, correct) for i, (q, text, correct) in enumerate(drawn)]
    using = rules(max_length=limit, seed=seed, pairs_per_question=cap, length_matched=ratio)
    found = outcomes(answers, using)
    by_id, made = {a.id: a for a in answers}, pairs_in(found)
    for pair in made:
        chosen, rejected = (by_id[i] for i in pair.parents)
        assert chosen.payload["verdict"]["correct"] and not rejected.payload["verdict"]["correct"]
        assert (
            chosen.payload["question"] == rejected.payload["question"] == pair.payload["question"] != HELD_OUT
        )
        assert (
            text_of(pair.payload["chosen"]) == chosen.payload["text"]
            and text_of(pair.payload["rejected"]) == rejected.payload["text"]
        )
        assert chosen.payload["text"].split() != rejected.payload["text"].split()
        assert HELD_OUT not in chosen.payload["text"] + rejected.payload["text"]
        a, b = pair.payload["tokens_chosen"], pair.payload["tokens_rejected"]
        assert pair.payload["tokens_prompt"] + max(a, b) <= limit
        assert ratio is None or max(a, b) <= ratio * min(a, b)
    if cap is not None:
        assert max(Counter(p.payload["task_id"] for p in made).values(), default=0) <= cap
    assert len({p.id for p in made}) == len(made)
    assert {i for i, outcome in found.items() if isinstance(outcome, Kept)} == {
        i for p in made for i in p.parents
    }
    rng.shuffle(answers)
    again = outcomes(answers, using)
    assert reasons(again) == reasons(found) and {p.id: p.payload for p in pairs_in(again)} == {
        p.id: p.payload for p in made
    }


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.integers(1, 70))
def test_answers_of_a_question_come_together_in_any_memory(names: list[str], at_once: int):
    rows = [Row(f"{i:02d}", {"task_id": name}) for i, name in enumerate(names)]
    found = list(by_question(lambda: iter(rows), len(rows), at_once))
    assert sorted(r.id for r in found) == [r.id for r in rows]
    order = [r.payload["task_id"] for r in found]
    assert sum(a != b for a, b in pairwise(order)) == max(0, len(set(names)) - 1)
    assert [r.id for r in by_question(lambda: iter(rows[::-1]), len(rows), at_once)] == [r.id for r in found]


def test_as_steps_of_a_stage_no_answer_is_lost(tmp_path):
    """Through files, as the stage runs them: equal answers first, then pairs.

    Every row in is kept or dropped with a reason.
    """
    answers = [answer(f"r{i}", f"q{i % 5}", f"yes {i % 7}", True) for i in range(40)]
    answers += [answer(f"w{i}", f"q{i % 6}", f"no {i % 4}", False) for i in range(40)]
    using = rules(pairs_per_question=3)
    steps = {
        "exact_duplicates": exact_duplicates(tuple),
        "pair_up": cloudpickle.loads(cloudpickle.dumps(pair_up(Direct(tiny_recipe()), using))),
    }
    first, second = run_steps(steps, partial(by_question, lambda: iter(answers), len(answers)), str(tmp_path))
    assert first.rows_in == 80 and first.rows_out == second.rows_in == 80 - first.dropped["duplicate"]
    assert second.rows_in == second.rows_out + sum(second.dropped.values()) and set(second.dropped) == {
        "over_cap",
        "no_counterpart",
    }
    made = [row for path in files.glob(str(tmp_path), "part-*.arrow") for row in parts.read_rows(path)]
    assert len(made) == 15 and len({i for p in made for i in p.parents}) == second.rows_out


class Revised(Direct):
    """A method whose rows hold a first version of their answer.

    One that is careless is `of` two right answers.
    """

    name = "revised"
    careless = False

    def pairs(self, right: Any, wrong: Any) -> Any:
        for row in right:
            other = right[-1] if self.careless else row
            reply = [{"role": "assistant", "content": "a first version"}]
            yield Pair(self.question(row), self.examples(row)[0].completion, reply, row, other)


def test_a_method_may_pair_a_row_with_itself_but_not_two_right_answers():
    answers = [answer(f"r{i}", "q", f"yes {i}", True) for i in range(2)]
    found = outcomes(answers, rules(), Revised(tiny_recipe()))
    assert [p.parents for p in pairs_in(found)] == [["r0"], ["r1"]]
    method = Revised(tiny_recipe())
    method.careless = True
    with pytest.raises(StageError, match="method revised paired rows r0 and r1"):
        outcomes(answers, rules(), method)


def test_examples_of_different_prompts_are_no_pair():
    class Own(Direct):
        """Asks each answer's question in its own words."""

        def question(self, row: Row) -> Any:
            return [{"role": "user", "content": row.payload["question"] + row.id}]

    answers = [answer("r", "q", "yes", True), answer("w", "q", "no", False)]
    assert set(reasons(outcomes(answers, rules(), Own(tiny_recipe()))).values()) == {"no_counterpart"}


def scored(name: str, score: float | None, correct: bool = False, text: str = "") -> Row:
    row = answer(name, "q", text or f"text {name}", correct)
    row.payload["verdict"]["score"] = score
    return row


def test_best_against_worst_takes_the_widest_gap_and_then_answers_not_used():
    answers = [scored(name, score) for name, score in zip("abcde", (0.9, 0.1, 0.5, 0.7, 0.5), strict=True)]
    found = outcomes(answers, rules(pairs="best_worst"))
    assert [p.parents for p in pairs_in(found)] in ([["a", "b"], ["d", "c"]], [["a", "b"], ["d", "e"]])
    [widest] = pairs_in(outcomes(answers, rules(pairs="best_worst", pairs_per_question=1)))
    assert widest.parents == ["a", "b"] and widest.payload["chosen_verdict"]["score"] == 0.9
    every = pairs_in(outcomes(answers, rules(pairs="best_worst", pairs_per_question=None)))
    assert len(every) == 9, "ten couples, of which two answers score the same"
    assert all(p.payload["chosen_verdict"]["score"] > p.payload["rejected_verdict"]["score"] for p in every)


def test_a_gap_that_is_too_small_is_said_of_both_answers():
    answers = [scored("a", 0.9), scored("b", 0.8)]
    found = outcomes(answers, rules(pairs="best_worst", min_gap=0.2))
    assert reasons(found) == {"a": "small_gap", "b": "small_gap"} and "differ by 0.1" in found["a"].detail
    assert pairs_in(outcomes(answers, rules(pairs="best_worst", min_gap=0.05)))
    equal = outcomes([scored("a", 0.9), scored("b", 0.9)], rules(pairs="best_worst"))
    assert set(reasons(equal).values()) == {"no_counterpart"}
    close = [scored("r", 0.6, True), scored("w", 0.5)]
    assert set(reasons(outcomes(close, rules(min_gap=0.2))).values()) == {"small_gap"}
    assert len(pairs_in(outcomes(close, rules()))) == 1, "right against wrong asks for no gap by default"


def test_scores_never_prefer_a_wrong_answer_to_a_right_one():
    found = outcomes([scored("r", 0.2, True), scored("w", 0.9)], rules(pairs="best_worst"))
    assert not pairs_in(found)
    unscored = outcomes([scored("r", None, True), scored("w", None)], rules(pairs="best_worst"))
    assert [p.parents for p in pairs_in(unscored)] == [["r", "w"]], "right is 1, wrong is 0"


def test_the_difference_of_lengths_has_a_limit():
    answers = [scored("a", 1.0, text="so " * 9), scored("b", 0.0, text="no no")]
    found = outcomes(answers, rules(pairs="best_worst", max_length_difference=6))
    assert (
        set(reasons(found).values()) == {"length_mismatch"}
        and "max_length_difference is 6" in found["a"].detail
    )
    assert pairs_in(outcomes(answers, rules(pairs="best_worst", max_length_difference=7)))


def test_pairs_by_score_and_a_methods_own_pairs_exclude_each_other():
    with pytest.raises(ConfigError, match="method revised makes pairs in its own way"):
        pair_up(Revised(tiny_recipe()), rules(pairs="best_worst"))


def test_settings_that_older_runs_lack_are_no_part_of_a_fingerprint():
    assert Preferences().fingerprint() == {"pairs_per_question": 2, "length_matched": None, "distinct": True}
    assert Preferences(pairs="best_worst", min_gap=0.5).fingerprint().items() >= {
        ("pairs", "best_worst"),
        ("min_gap", 0.5),
    }


@pytest.mark.parametrize(("given", "read"), [(False, None), ("off", None), (None, None), (1.5, 1.5)])
def test_length_matching_may_be_off(given: Any, read: float | None):
    assert tiny_recipe(preferences={"length_matched": given}).preferences.length_matched == read


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"preferences": {"length_matched": 0.5}},
            "preferences.length_matched: Input should be greater than or equal to 1",
        ),
        ({"preferences": {"length_matched": True}}, "length_matched: expected the maximum ratio"),
        ({"preferences": {"pairs_per_question": 0}}, "preferences.pairs_per_question"),
        (
            {"train": {"kind": "dpi"}},
            "train.kind: Input should be 'sft', 'dpo', 'sft_then_dpo', 'kto', 'sft_then_kto' or 'cpt'",
        ),
        ({"train": {"dpo": {"loss_type": "sigmoyd"}}}, "train.dpo.loss_type.0"),
        ({"train": {"dpo": {"loss_weights": [1, 2, 3]}}}, "loss_weights has 3 numbers for 2 losses"),
        ({"train": {"dpo": {"betta": 1}}}, "did you mean 'beta'"),
    ],
)
def test_mistakes_in_the_recipe_are_named(sections: Any, said: str):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        tiny_recipe(**sections)
