"""Preference pairs, question by question: a round's right answers against its wrong ones, or those with a
high score against those with a low one.

Rows in are answers, rows out are pairs. An answer in a pair is done; any other is dropped with the reason why
it is in none: held_out_exact, held_out_ngram, control_token and too_long are faults of the answer, same_text,
earlier_pair, length_mismatch and small_gap of every pair it could be in; over_cap means that other pairs were
drawn, no_counterpart that there is no usable answer on the other side.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, permutations, product
from typing import Any, NamedTuple

import orjson

from pipeline.chat import PLAIN, Chat
from pipeline.chat.check import control_token
from pipeline.config import Preferences
from pipeline.engines.base import Message
from pipeline.errors import ConfigError, StageError
from pipeline.ids import digest, row_id, unit_interval
from pipeline.methods import Method
from pipeline.protocols import MakesPairs, Pair
from pipeline.publish import joint_tokens, token_lengths
from pipeline.rows import Dropped, Kept, Row
from pipeline.stage import PAIRS, DatasetStep
from stages.steps.decontaminate import Asked, HeldOut


class Rules(NamedTuple):
    """What pairs must satisfy, and how they are drawn. `earlier` yields the pair rows of earlier rounds."""

    preferences: Preferences
    held_out: Sequence[HeldOut]
    tokenizer: Any
    max_length: int
    seed: int
    earlier: Callable[[], Iterable[Row]] = tuple
    chat: Chat = PLAIN


def pair_up(method: Method, rules: Rules) -> DatasetStep:
    """Return the step that makes pairs of answers.

    The answers of one question must come together, in any order; payload["verdict"] has `correct` and
    `score`. Memory: the answers of one question, and a digest per pair of earlier rounds. Raises ConfigError
    for a method whose own pairs know no scores.
    """
    check_pairs(method, rules.preferences)
    return partial(_pair_up, method, rules)


def check_pairs(method: Method, preferences: Preferences) -> None:
    """Raise ConfigError if a method cannot make the pairs that a recipe asks for."""
    if preferences.pairs == "best_worst" and isinstance(method, MakesPairs):
        raise ConfigError(
            f"preferences.pairs: method {method.name} makes pairs in its own way, without scores; remove "
            "best_worst."
        )


def _pair_up(
    method: Method, rules: Rules, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | Kept]]:
    before = {_content(row) for row in rules.earlier()} if rules.preferences.distinct else set()
    for _, answers in groupby(rows(), key=lambda row: row.payload["task_id"]):
        yield from _Question(sorted(answers, key=lambda row: row.id), method, rules, before).outcomes()


class _Question:
    """The answers to one question: their candidate pairs, those drawn, and why an answer is in none."""

    def __init__(self, answers: list[Row], method: Method, rules: Rules, before: set[str]) -> None:
        self._answers, self._method, self._rules, self._before = answers, method, rules, before
        self._lengths: dict[bytes, tuple[int, int]] = {}
        self._why: dict[str, tuple[int, Dropped]] = {}  # answer: the reason that came closest to a pair

    def outcomes(self) -> Iterator[tuple[Row, Dropped | Kept]]:
        """Yield each answer once: with the pairs it is the chosen side of, or with the reason why it is in no
        pair.
        """
        usable = [row for pair in self._candidates() if (row := self._usable(pair))]
        drawn = draw(usable, self._rules.preferences, self._rules.seed)
        for row in usable:
            for parent in row.parents:
                over = Dropped("over_cap", f"{len(drawn)} other pairs of this question were drawn")
                self._note(parent, 3, over)
        used = {parent for row in drawn for parent in row.parents}
        for answer in self._answers:
            if answer.id in used:
                yield answer, Kept([row for row in drawn if row.parents[0] == answer.id])
            else:
                none = Dropped("no_counterpart", f"no usable {self._lacking(answer)} to this question")
                why = self._why.get(answer.id, (0, none))[1]
                yield answer, Dropped(why.reason, why.detail, answer.payload["text"])

    @property
    def _ranked(self) -> bool:
        return self._rules.preferences.pairs == "best_worst"

    def _lacking(self, answer: Row) -> str:
        if self._ranked:
            return f"answer with another score than {score(answer):g}"
        return f"{'wrong' if _right(answer) else 'right'} answer"

    def _candidates(self) -> Iterator[Pair]:
        """Yield all pairs with the completions that are trained."""
        for pair in self._by_score() if self._ranked else self._by_verdict():
            sides = ((pair.chosen, pair.chosen_row), (pair.rejected, pair.rejected_row))
            chosen, rejected = (self._rules.chat.completion(reply, row.payload) for reply, row in sides)
            yield replace(pair, chosen=chosen, rejected=rejected)

    def _by_score(self) -> Iterator[Pair]:
        """Yield each answer with each that has a lower score. No wrong answer is preferred to a right one."""
        ordered = permutations(self._answers, 2)
        allowed = ((a, b) for a, b in ordered if score(a) > score(b) and _right(a) >= _right(b))
        return _with_one_prompt(self._method, self._answers, allowed)

    def _by_verdict(self) -> Iterator[Pair]:
        """Yield the method's pairs. Raises StageError for two answers that must not be paired."""
        right, wrong = [r for r in self._answers if _right(r)], [r for r in self._answers if not _right(r)]
        choosable, refusable = {r.id for r in right}, {r.id for r in wrong}
        makes_pairs = (
            self._method.pairs if isinstance(self._method, MakesPairs) else partial(_product, self._method)
        )
        for pair in makes_pairs(right, wrong):
            a, b = pair.chosen_row.id, pair.rejected_row.id
            if a not in choosable or (b not in refusable and a != b):
                raise StageError(
                    f"method {self._method.name} paired rows {a} and {b}: the chosen one must be a right "
                    "answer, the rejected one "
                    "a wrong answer to the same question, or an earlier version in the same row."
                )
            yield pair

    def _usable(self, pair: Pair) -> Row | None:
        """Return the pair as a row, or None if something is wrong with it, which is noted for the answers at
        fault.
        """
        sides = ((pair.chosen_row, pair.chosen), (pair.rejected_row, pair.rejected))
        lengths = [sum(self._count(pair.prompt, reply)) for _, reply in sides]
        faults = [
            (row.id, why)
            for (row, reply), tokens in zip(sides, lengths, strict=True)
            if (why := fault(self._rules, row, reply, tokens))
        ]
        for answer, why in faults:
            self._note(answer, 1, why)
        if faults:
            return None
        row = self._row(pair)
        if mismatch := self._small_gap(row) or self._mismatch(row):
            for answer in row.parents:
                self._note(answer, 2, mismatch)
            return None
        return row

    def _small_gap(self, row: Row) -> Dropped | None:
        least, found = self._rules.preferences.min_gap, gap(row)
        if not least or found >= least:
            return None
        return Dropped("small_gap", f"the scores differ by {found:g}; preferences.min_gap is {least:g}")

    def _mismatch(self, row: Row) -> Dropped | None:
        chosen, rejected = (row.payload[f"tokens_{side}"] for side in ("chosen", "rejected"))
        limit, difference = (
            self._rules.preferences.length_matched,
            self._rules.preferences.max_length_difference,
        )
        if _same(row.payload["chosen"], row.payload["rejected"]):
            return Dropped("same_text", "chosen and rejected say the same")
        if limit is not None and max(chosen, rejected) > limit * max(1, min(chosen, rejected)):
            return Dropped(
                "length_mismatch",
                f"{chosen} tokens chosen, {rejected} rejected; preferences.length_matched is {limit:g}",
            )
        if difference is not None and abs(chosen - rejected) > difference:
            return Dropped(
                "length_mismatch",
                f"{chosen} tokens chosen, {rejected} rejected; preferences.max_length_difference is "
                f"{difference}",
            )
        return (
            Dropped("earlier_pair", "an earlier round has this pair")
            if _content(row) in self._before
            else None
        )

    def _row(self, pair: Pair) -> Row:
        a, b = pair.chosen_row, pair.rejected_row
        lengths = {
            "chosen": self._count(pair.prompt, pair.chosen),
            "rejected": self._count(pair.prompt, pair.rejected),
        }
        payload = {
            **{name: a.payload.get(name) for name in ("task_id", "question", "answer", "answer_type")},
            "prompt": pair.prompt,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "chosen_model": a.payload.get("model", ""),
            "rejected_model": b.payload.get("model", ""),
            "chosen_verdict": a.payload.get("verdict"),
            "rejected_verdict": b.payload.get("verdict"),
            "sampling": pair.sampling or a.payload.get("sampling"),
            "hinted": bool(a.payload.get("hinted") or b.payload.get("hinted")),
            **joint_tokens(lengths),
        }
        # The texts are part of the id, since two answers may be paired in several ways.
        parents = list(dict.fromkeys((a.id, b.id)))
        return Row(
            row_id([a.id, b.id], PAIRS, digest([pair.prompt, pair.chosen, pair.rejected])), payload, parents
        )

    def _count(self, prompt: list[Message], reply: list[Message]) -> tuple[int, int]:
        key = orjson.dumps([prompt, reply])
        if key not in self._lengths:
            self._lengths[key] = token_lengths(self._rules.tokenizer, prompt, reply)
        return self._lengths[key]

    def _note(self, answer: str, closeness: int, why: Dropped) -> None:
        if closeness > self._why.get(answer, (0,))[0]:
            self._why[answer] = (closeness, why)


def fault(rules: Rules, row: Row, reply: list[Message], tokens: int) -> Dropped | None:
    """Return why an answer (of `tokens` with its prompt) must not be trained on; None if it may."""
    for held_out in rules.held_out:
        if leak := held_out.leak(Asked.of(row.payload), text_of(reply)):
            return leak
    if token := control_token(rules.tokenizer, text_of(reply)):
        return Dropped("control_token", f"an answer spells out {token}")
    if tokens > rules.max_length:
        return Dropped("too_long", f"{tokens} tokens, train.max_length is {rules.max_length}")
    return None


def _product(method: Method, right: Sequence[Row], wrong: Sequence[Row]) -> Iterator[Pair]:
    """Pair each right answer with each wrong one where their examples have the same prompt."""
    return _with_one_prompt(method, (*right, *wrong), product(right, wrong))


def _with_one_prompt(
    method: Method, answers: Sequence[Row], pairs: Iterable[tuple[Row, Row]]
) -> Iterator[Pair]:
    """Yield the pairs of answers as pairs of their examples that have the same prompt."""
    examples = {row.id: method.examples(row) for row in answers}
    for a, b in pairs:
        for better, worse in product(examples[a.id], examples[b.id]):
            if better.prompt == worse.prompt:
                yield Pair(better.prompt, better.completion, worse.completion, a, b)


def draw(pairs: Sequence[Row], preferences: Preferences, seed: int) -> list[Row]:
    """Choose preferences.pairs_per_question of one question's pairs (None: all) by `seed` and ids; for
    best_worst by the gap of their scores first. Pairs of answers not used yet come first.
    """
    ranked, n = preferences.pairs == "best_worst", preferences.pairs_per_question
    fresh, again, used = [], [], set[str]()

    def order(row: Row) -> tuple[float, float, str]:
        return (-gap(row) if ranked else 0.0, unit_interval(seed, PAIRS, row.id), row.id)

    for pair in sorted(pairs, key=order):
        if used.isdisjoint(pair.parents):
            used.update(pair.parents)
            fresh.append(pair)
        else:
            again.append(pair)
    return [*fresh, *again][:n]


def text_of(messages: list[Message]) -> str:
    """Return the content of messages as one text."""
    return "\n".join(m["content"] for m in messages)


def _same(one: list[Message], other: list[Message]) -> bool:
    return text_of(one).split() == text_of(other).split()


def score(answer: Row) -> float:
    """Return the score of an answer's verdict; without one, 1 if the answer is right, else 0."""
    return _score(answer.payload["verdict"])


def gap(pair: Row) -> float:
    """Return by how much the score of a pair's chosen answer is above that of the rejected one."""
    return _score(pair.payload["chosen_verdict"]) - _score(pair.payload["rejected_verdict"])


def _score(verdict: Mapping[str, Any] | None) -> float:
    found = (verdict or {}).get("score")
    return float((verdict or {}).get("correct", False)) if found is None else float(found)


def _right(answer: Row) -> bool:
    return bool(answer.payload["verdict"]["correct"])


def _content(row: Row) -> str:
    return digest([row.payload["task_id"], row.payload["chosen"], row.payload["rejected"]])
