"""Tasks and demonstrations: where they come from, and which are held out.

A source is a function from (Source, seed) to an iterator of RawRow, BadRow and Repeat; `read_tasks` makes
rows of them.
"""

from stages.tasks.read import read_demonstrations, read_tasks
from stages.tasks.records import BadRow, RawRow, Repeat
from stages.tasks.split import split_held_out

__all__ = ["BadRow", "RawRow", "Repeat", "read_demonstrations", "read_tasks", "split_held_out"]
