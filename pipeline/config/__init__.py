"""Configuration: one YAML recipe per run, read into typed models."""

from pipeline.config.load import build_recipe, dump_recipe, load_recipe
from pipeline.config.recipe import (
    Accumulate,
    Cpt,
    Dpo,
    Evaluate,
    Filters,
    HeldOut,
    Lora,
    OpenaiEngine,
    Preferences,
    Recipe,
    Runner,
    ScriptedEngine,
    Source,
    Train,
    VllmEngine,
)

__all__ = [
    "Accumulate",
    "Cpt",
    "Dpo",
    "Evaluate",
    "Filters",
    "HeldOut",
    "Lora",
    "OpenaiEngine",
    "Preferences",
    "Recipe",
    "Runner",
    "ScriptedEngine",
    "Source",
    "Train",
    "VllmEngine",
    "build_recipe",
    "dump_recipe",
    "load_recipe",
]
