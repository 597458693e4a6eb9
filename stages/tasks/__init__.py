"""Tasks and demonstrations: where they come from, and which are held out.

A source is a function from (Source, seed) to an iterator of RawRow, BadRow and Repeat; `read_tasks` makes
rows of them.
"""

from stages.tasks.read import read_demonstrations, read_tasks
from stages.tasks.records import BadRow, RawRow, Repeat, TaskSet, Written
from stages.tasks.scoring import score_answer
from stages.tasks.split import same_question, split_held_out

__all__ = [
    "BadRow",
    "RawRow",
    "Repeat",
    "TaskSet",
    "Written",
    "read_demonstrations",
    "read_tasks",
    "same_question",
    "score_answer",
    "split_held_out",
]
