"""Crafting: take base items, follow recipes, make the goal. Worlds are generated or from a recipe file."""

from stages.environments.crafting.game import Crafting
from stages.environments.crafting.options import CraftingOptions

__all__ = ["Crafting", "CraftingOptions"]
