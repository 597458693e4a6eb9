"""Tree search in text environments: the tree, the game that its nodes are states of, and the search itself."""

from stages.search.facts import SOLVED, record_facts, search_facts
from stages.search.game import Game, Games
from stages.search.search import SearchSettings, search
from stages.search.tree import CUT_OFF, DEPTH, DONE, REFUSED, REPEAT, Node, Tree, ucb

__all__ = [
    "CUT_OFF", "DEPTH", "DONE", "REFUSED", "REPEAT", "SOLVED",
    "Game", "Games", "Node", "SearchSettings", "Tree", "record_facts", "search", "search_facts", "ucb",
]  # fmt: skip
