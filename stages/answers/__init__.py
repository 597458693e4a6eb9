"""Typed answers: find the marked one in a text, compare it with another by value, and key it for vote counting.

Nothing here raises on any text, and everything takes time linear in it: what a model writes is hostile input.
Source: ReGenesis 1.4, and the faults 1-6 of the released filter, none of which may come back.
"""

from stages.answers.compare import check_truth, equal, extract, normalised
from stages.answers.marks import Extraction, mark, on_a_line

__all__ = ["Extraction", "check_truth", "equal", "extract", "mark", "normalised", "on_a_line"]
