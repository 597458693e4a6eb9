"""Configuration: one YAML recipe per run, read into typed models."""

from pipeline.config.arena import Arena, Budget
from pipeline.config.data import Accumulate, Columns, Filters, HeldOut, Preferences, Source
from pipeline.config.engines import AnyEngine, OpenaiEngine, ScriptedEngine, VllmEngine, WorkerEngine
from pipeline.config.load import (
    Override,
    Place,
    build_recipe,
    dump_recipe,
    load_recipe,
    load_section,
    stored_data,
    stored_recipe,
)
from pipeline.config.recipe import Evaluate, Model, Recipe, Runner
from pipeline.config.training import Cpt, Dpo, Lora, Train

__all__ = [
    "Accumulate", "AnyEngine", "Arena", "Budget", "Columns", "Cpt", "Dpo", "Evaluate", "Filters", "HeldOut",
    "Lora", "Model", "OpenaiEngine", "Override", "Place", "Preferences", "Recipe", "Runner", "ScriptedEngine",
    "Source", "Train", "VllmEngine", "WorkerEngine", "build_recipe", "dump_recipe", "load_recipe",
    "load_section", "stored_data", "stored_recipe",
]  # fmt: skip
