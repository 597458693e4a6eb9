"""New questions written by a model: what it is shown, how its list is read, and which questions are dropped.

Drop reasons: too_short, too_long, not_a_question, malformed_number, and near_duplicate of a known, a held-out
or another new question (ROUGE-L). Source: self-instruct (Wang et al. 2022, arXiv 2212.10560).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NamedTuple

from pipeline.ids import digest, row_id
from pipeline.protocols import Proposals
from pipeline.rows import Dropped, Row
from pipeline.stage import PROPOSE, DatasetStep
from stages.steps import decontaminate
from stages.steps.rouge import rouge_l

MODEL_MADE = (
    4  # one in this many shown questions is model-written, where there are any (2 of 8 in self-instruct)
)
# Question marks: Latin, full-width, small, Arabic, Greek, Armenian, Ethiopic; and Japanese without one.
QUESTION_ENDS = ("?", "\uff1f", "\ufe56", "\u061f", "\u037e", "\u055e", "\u1367", "か。")
LENGTHS = (0.5, 2.0)  # length limits of a new question, relative to the shortest and the longest known one

_ITEM = re.compile(r"^\s*(?:(?:\*\*|#{1,6}\s+)?\d{1,3}[.):](?:\*\*)?|[-*\u2022])(?:\s+|$)")
_LABEL = re.compile(
    r"(?i)^(?:#{1,6}\s+)?(?:\*\*)?(?:new\s+)?(?:task|question|problem|q)(?:\s*#?\d{1,3})?(?:\*\*)?:(?:\*\*)?\s*"
)
_FENCE = re.compile(r"^\s*```")
_QUESTION_KEYS = ("question", "task", "problem", "text", "instruction")

_NUMBER = re.compile(r"\d(?:[\d.,]*\d)?")
_WELL_FORMED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")


class Known(NamedTuple):
    """A question that exists already."""

    id: str
    question: str


def requests(real: list[Known], made: list[Known], proposals: Proposals, seed: int, round_: int) -> list[Row]:
    """Return rows that request new questions; payload["shown"] has known ones, drawn by `seed` and id."""
    rows = []
    for i in range(proposals.calls):
        draw = Random(digest([seed, PROPOSE, round_, i]))
        few = min(len(made), proposals.shown // MODEL_MADE)
        shown = [*draw.sample(made, few), *draw.sample(real, proposals.shown - few)]
        draw.shuffle(shown)
        ids = [known.id for known in shown]
        rows.append(
            Row(row_id(ids, PROPOSE, f"{round_}/{i}"), {"shown": [known.question for known in shown]}, ids)
        )
    return rows


def questions_in(text: str) -> list[str]:
    """Return the questions of a list, one per line, without numbers, dashes, labels ("Task 1:"), Markdown,
    quotation marks and empty lines; or the strings of a list in JSON.
    """
    lines = _in_json(text) or [line for line in text.splitlines() if not _FENCE.match(line)]
    return list(dict.fromkeys(line for line in map(_bare, lines) if line))


def _bare(line: str) -> str:
    """Return a question without what a list puts around it."""
    bare = _ITEM.sub("", line).strip()
    if label := _LABEL.match(bare):
        bare = _ITEM.sub("", bare[label.end() :]).strip()
    if bare.startswith("**") or bare.endswith("**"):
        bare = bare.replace("**", "").strip()
    return bare[1:-1].strip() if len(bare) > 1 and bare[0] + bare[-1] in ('""', "\u201c\u201d") else bare


def _in_json(text: str) -> list[str]:
    """Return the strings of a JSON list, or of the one member of each of its objects that is a question."""
    start, end = text.find("["), text.rfind("]")
    try:
        read = json.loads(text[start : end + 1]) if 0 <= start < end else None
    except (ValueError, RecursionError):
        return []
    found = [
        next((one[key] for key in _QUESTION_KEYS if key in one), "") if isinstance(one, dict) else one
        for one in (read if isinstance(read, list) else ())
    ]
    return [" ".join(one.split()) for one in found if isinstance(one, str)]


def well_formed(pool: Callable[[], Iterable[Known]]) -> DatasetStep:
    """Return a step that drops texts that are not well-formed questions like those of `pool`."""

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        known = [k.question for k in pool()]
        lengths = [len(decontaminate.words(q)) for q in known]
        shortest, longest = LENGTHS[0] * min(lengths), LENGTHS[1] * max(lengths)
        begins = {decontaminate.words(q)[0] for q in known if not q.rstrip().endswith(QUESTION_ENDS)}
        for row in rows():
            yield row, malformed(row.payload["question"], shortest, longest, begins)

    return step


def malformed(question: str, shortest: float, longest: float, begins: set[str]) -> Dropped | None:
    """Return why a text is no well-formed question, or None.

    It has `shortest` to `longest` words, well-formed numbers, and a question mark (of any script), or a first
    word in `begins` (as "Calculate").
    """
    words = decontaminate.words(question)
    length = len(words)
    if length < max(1, shortest):
        return Dropped("too_short", f"{length} words; the shortest allowed here has {shortest:g}", question)
    if length > longest:
        return Dropped("too_long", f"{length} words; the longest allowed here has {longest:g}", question)
    if not question.endswith(QUESTION_ENDS) and words[0] not in begins:
        return Dropped(
            "not_a_question",
            f"it has no question mark, and begins with {words[0]!r} as no known question without one does",
            question,
        )
    if bad := next((n for n in _NUMBER.findall(question) if not _WELL_FORMED.fullmatch(n)), None):
        return Dropped("malformed_number", bad, question)
    return None


def drop_near_duplicates(pool: Callable[[], Iterable[Known]], max_rouge: float) -> DatasetStep:
    """Return a step that drops near-duplicates of the `pool`, and of one another.

    `max_rouge`: questions at or above this ROUGE-L count as duplicates. Of similar new ones the one with the
    smallest id stays.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        known = {tuple(decontaminate.words(k.question)): k.question for k in pool()}
        for row in sorted(rows(), key=lambda row: row.id):
            question = row.payload["question"]
            words = tuple(decontaminate.words(question))
            like = next((k for k in known if (score := rouge_l(words, k)) >= max_rouge), None)
            if like is not None:
                yield (
                    row,
                    Dropped("near_duplicate", f"ROUGE-L {score:.2f} with: {known[like][:200]}", question),
                )
            else:
                known[words] = question
                yield row, None

    return step
