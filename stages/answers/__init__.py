"""Typed answers: extract the marked answer from a text, compare two by value, and key one for vote counting.

Model output is hostile input: nothing here raises on any text, and everything takes time linear in it.
There is no comparison by substring and no fallback to the whole text; the released ReGenesis filter
(arXiv 2410.02108) had both and accepted wrong answers.
"""

from stages.answers.compare import check_truth, difference, equal, extract, normalized
from stages.answers.marks import Extraction, mark, on_a_line

__all__ = ["Extraction", "check_truth", "difference", "equal", "extract", "mark", "normalized", "on_a_line"]
