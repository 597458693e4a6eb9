"""Configuration: one YAML recipe per run, read into typed models."""

from pipeline.config.data import Accumulate, Columns, Filters, HeldOut, NearDuplicates, Preferences, Source
from pipeline.config.engines import AnyEngine, OpenaiEngine, ScriptedEngine, VllmEngine, WorkerEngine
from pipeline.config.load import build_recipe, dump_recipe, load_recipe, stored_data, stored_recipe
from pipeline.config.recipe import Evaluate, Model, Recipe, Runner
from pipeline.config.training import Cpt, Dpo, Lora, Train

__all__ = [
    "Accumulate", "AnyEngine", "Columns", "Cpt", "Dpo", "Evaluate", "Filters", "HeldOut", "Lora", "Model",
    "NearDuplicates", "OpenaiEngine", "Preferences", "Recipe", "Runner", "ScriptedEngine", "Source", "Train",
    "VllmEngine", "WorkerEngine", "build_recipe", "dump_recipe", "load_recipe", "stored_data",
    "stored_recipe",
]  # fmt: skip
