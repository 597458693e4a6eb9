"""Tree search in text environments: the tree, the game whose states are its nodes, and the search itself."""

from stages.methods.agent_r.search.game import Game, Games
from stages.methods.agent_r.search.statistics import SOLVED, record_facts, search_counts, search_facts
from stages.methods.agent_r.search.tree import CUT_OFF, DEPTH, DONE, REFUSED, REPEAT, Node, Tree, ucb
from stages.methods.agent_r.search.tree_search import SearchSettings, search

__all__ = [
    "CUT_OFF",
    "DEPTH",
    "DONE",
    "REFUSED",
    "REPEAT",
    "SOLVED",
    "Game",
    "Games",
    "Node",
    "SearchSettings",
    "Tree",
    "record_facts",
    "search",
    "search_counts",
    "search_facts",
    "ucb",
]
