"""Questions that a model always answers right, from which nothing is learned: left out of publishing.

generate counts a question's answers (`counted`), verify finds that none was wrong (`marked`), and publishing
drops those rows (`left_out`). Preference pairs need a wrong answer, so such a question has none anyway.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from pipeline.payload import Key, declare
from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep, Stage
from stages.steps.groups import decided

ANSWERS, SOLVED = "answers_of_question", "solved"
declare(
    {
        ANSWERS: Key("generate", "verify", "how many answers of the question were sampled, with skip_solved"),
        SOLVED: Key("verify", "publish", "every answer of the question is right, with skip_solved"),
    }
)

IsRight = Callable[[Row], bool]


def _any(row: Row) -> bool:
    return True


def skipping(stages: dict[str, Stage], is_right: IsRight = _any) -> dict[str, Stage]:
    """Return a method's stages with `marked` at the end of verify. generate has to use `counted`."""
    generate, verify = stages["generate"], stages["verify"]
    counts = {**(generate.config or {}), "skip_solved": True}
    steps = {**verify.steps, "solved": marked(is_right)}
    config = {**(verify.config or {}), "skip_solved": True}
    return {
        **stages,
        "generate": replace(generate, config=counts),
        "verify": replace(verify, steps=steps, config=config),
    }


def counted(rows: Sequence[Row], answers: int) -> list[Row]:
    """Return one question's rows with the number of its `answers`: as many have to be right."""
    return [Row(row.id, {**row.payload, ANSWERS: answers}, row.parents) for row in rows]


def marked(is_right: IsRight = _any) -> DatasetStep:
    """Return a step for verify that tells each row whether its question is solved: as many of its rows as
    were counted are here and right.
    """

    def entry(row: Row) -> tuple[str, bool]:
        return row.payload["task_id"], is_right(row)

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, None]]:
        for row, right in decided(rows, entry, lambda answers: [sum(answers)] * len(answers)):
            solved = 0 < row.payload.get(ANSWERS, 0) <= right
            yield Row(row.id, {**row.payload, SOLVED: solved}, row.parents), None

    return step


def left_out(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    """Drop the rows of solved questions as all_right."""
    for row in rows():
        if row.payload.get(SOLVED):
            n = row.payload[ANSWERS]
            yield (
                row,
                Dropped("all_right", f"all {n} answers of this question are right", row.payload["text"]),
            )
        else:
            yield row, None
