"""Tree search in text environments: the tree, the game that its nodes are states of, and the search itself."""

from stages.methods.agent_r.search.facts import SOLVED, record_facts, search_facts
from stages.methods.agent_r.search.game import Game, Games
from stages.methods.agent_r.search.search import SearchSettings, search
from stages.methods.agent_r.search.tree import CUT_OFF, DEPTH, DONE, REFUSED, REPEAT, Node, Tree, ucb

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
    "search_facts",
    "ucb",
]
