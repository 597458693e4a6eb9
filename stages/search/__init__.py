"""Tree search in text environments: the tree, the game that its nodes are states of, and the search itself."""

from stages.search.game import Game, Games
from stages.search.search import SearchSettings, search
from stages.search.tree import DEPTH, DONE, REFUSED, REPEAT, Node, Tree, ucb

__all__ = ["DEPTH", "DONE", "REFUSED", "REPEAT", "Game", "Games", "Node", "SearchSettings", "Tree", "search", "ucb"]
