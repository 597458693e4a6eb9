"""Crafting: get base items, follow recipes, make the goal. Worlds are made up, or come from a recipe file of the user's."""

from stages.environments.crafting.game import Crafting
from stages.environments.crafting.options import CraftingOptions

__all__ = ["Crafting", "CraftingOptions"]
