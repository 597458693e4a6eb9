"""Near-duplicates: rows whose question and answer are nearly those of another row, by MinHash LSH.

The similarity of two texts is the Jaccard similarity of their sets of shingles, runs of a few words (of a few
characters in scripts without spaces). It is estimated, so a pair close to the threshold may fall on either
side of it, always on the same one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.steps import minhash
from stages.steps.decontaminate import words

BATCH = 4096  # rows whose signatures are made at once
# Rows of a bucket that others are compared with: enough for near-duplicates, which share many buckets, and
# few where boilerplate fills some of them.
COMPARED = 64
NOW = np.iinfo(np.int32).max  # in place of a round's number: this one

Text = Callable[[Row], str]
Read = Callable[[], Iterable[tuple[int, Row]]]  # rows with the number of their round


def near_duplicates(threshold: float, shingle: int, earlier: Read, text: Text, asked: Text) -> DatasetStep:
    """Return a step that drops rows whose text and question are both at least `threshold` similar to those of
    an `earlier` row, or of another row that stays; `shingle` is in words.

    Rows are settled in the order of their ids, in whatever order they come. `asked` returns a row's question,
    or "" where texts alone are compared. Rows are read three times, earlier ones twice. Memory: some 130
    bytes a row at a threshold of 0.8, and 1.5 KB for one that shares a band with another.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        read = lambda: chain(earlier(), ((NOW, row) for row in rows()))  # noqa: E731
        near = _Search(threshold, shingle, read, text, asked).dropped()
        for row in rows():
            yield row, near.get(row.id)

    return step


def shingles(text: str, size: int) -> list[str]:
    """Return the runs of `size` words of a text; all of it if it is shorter, or has no words at all."""
    found = words(text) or [text.strip()]
    return [" ".join(found[i : i + size]) for i in range(max(1, len(found) - size + 1))]


class _Candidates(NamedTuple):
    """Rows that may be near-duplicates, in the order in which they are settled."""

    ids: list[str]
    rounds: np.ndarray  # (n)
    texts: np.ndarray  # signatures, (n, SIZE)
    asked: np.ndarray  # (n), indices into questions
    questions: np.ndarray  # signatures of distinct questions, (m, SIZE)
    buckets: list[np.ndarray]  # those of each row


class _Search:
    def __init__(self, threshold: float, shingle: int, read: Read, text: Text, asked: Text) -> None:
        self.threshold, self.size = threshold, shingle
        self.read, self.text, self.asked = read, text, asked
        # The answers to a question are often neighbours.
        self.question_shingles = lru_cache(64)(lambda question: shingles(question, self.size))

    def dropped(self) -> dict[str, Dropped]:
        """Return why each near-duplicate of this round is dropped, by id."""
        found = self._candidates()
        kept: dict[int, list[int]] = defaultdict(list)  # by bucket
        dropped: dict[str, Dropped] = {}
        for i, buckets in enumerate(found.buckets):
            others = sorted({other for bucket in buckets for other in kept[bucket]})
            if found.rounds[i] == NOW and (why := self._repeats(found, i, others)):
                dropped[found.ids[i]] = why
                continue
            for bucket in buckets:
                if len(rows := kept[bucket]) < COMPARED:
                    rows.append(i)
        return dropped

    def _repeats(self, found: _Candidates, i: int, others: list[int]) -> Dropped | None:
        """Return why row `i` must be dropped if it is like one of `others`."""
        if not others:
            return None
        texts = minhash.similarities(found.texts[i], found.texts[others])
        questions = found.questions[found.asked[others]]
        alike = np.minimum(texts, minhash.similarities(found.questions[found.asked[i]], questions))
        best = int(alike.argmax())  # of several the first
        if alike[best] < self.threshold:
            return None
        of, round_ = found.ids[others[best]], found.rounds[others[best]]
        where = "" if round_ == NOW else f" of round {round_}"
        return Dropped("near_duplicate", f"of row {of}{where}, estimated similarity {alike[best]:.2f}")

    def _candidates(self) -> _Candidates:
        """Read the rows twice: all for their bands, then those that share one for their signatures."""
        ids, rounds, rows, buckets = self._shared()
        by_row = np.argsort(rows, kind="stable")
        places, first = np.unique(rows[by_row], return_index=True)
        of_row = np.split(buckets[by_row], first[1:])
        texts, asked, questions = self._signed(places)
        ids, rounds = ids[places], rounds[places]
        order = np.lexsort((ids, rounds))
        names = [id_.decode() for id_ in ids[order]]
        return _Candidates(
            names, rounds[order], texts[order], asked[order], questions, [of_row[i] for i in order]
        )

    def _shared(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return ids and rounds of all rows, and which rows share which buckets as two arrays."""
        length = minhash.rows_per_band(self.threshold)
        ids, rounds, keys = [np.array([], "S1")], [np.array([], np.int32)], []
        for batch in _batches(self.read()):
            ids.append(np.array([row.id.encode() for _, row in batch]))
            rounds.append(np.array([round_ for round_, _ in batch], np.int32))
            keys.append(minhash.band_keys(minhash.signatures([self._both(row) for _, row in batch]), length))
        shared = minhash.shared(np.concatenate(keys, axis=1) if keys else np.empty((1, 0), np.uint32))
        return np.concatenate(ids), np.concatenate(rounds), *shared

    def _signed(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the signatures of the texts of the rows at `places` (ascending), which of the distinct
        questions they answer, and the signatures of those.
        """
        wanted = set(places.tolist())
        rows = (row for i, (_, row) in enumerate(self.read()) if i in wanted)
        none = np.empty((0, minhash.SIZE), np.uint32)
        texts, questions, asked = [none], [none], []
        number: dict[bytes, int] = {}  # of a question, by its digest
        for batch in _batches(rows):
            texts.append(minhash.signatures([shingles(self.text(row), self.size) for row in batch]))
            new = []
            for question in map(self.asked, batch):
                key = blake2b(question.encode(), digest_size=16).digest()
                if key not in number:
                    number[key] = len(number)
                    new.append(self.question_shingles(question))
                asked.append(number[key])
            questions.append(minhash.signatures(new) if new else none)
        return np.concatenate(texts), np.array(asked, int), np.concatenate(questions)

    def _both(self, row: Row) -> list[str]:
        """Return the shingles of text and question, told apart by a line feed, which no word has.

        If both are similar by the threshold, so is their union; and equal texts of other questions, such as
        "Answer: yes", do not crowd a bucket.
        """
        question = self.asked(row)
        more = [f"\n{shingle}" for shingle in self.question_shingles(question)] if question else []
        return shingles(self.text(row), self.size) + more


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(islice(items, BATCH)):
        yield batch
