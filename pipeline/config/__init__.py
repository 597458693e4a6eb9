"""Configuration: one YAML recipe per run, read into typed models."""

from pipeline.config.arena import Arena, Budget, arena_overrides
from pipeline.config.data import Accumulate, Columns, Filters, HeldOut, NearDuplicates, Preferences, Source
from pipeline.config.engines import (
    AnyEngine,
    ClassifierEngine,
    OpenaiEngine,
    ScoresEngine,
    ScriptedEngine,
    VllmEngine,
    WorkerEngine,
)
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
from pipeline.config.training import Cpt, Dpo, Kto, Lora, Train
from pipeline.config.verifiers import AnyVerifier, VerifierSection

__all__ = [
    "Accumulate", "AnyEngine", "AnyVerifier", "Arena", "Budget", "ClassifierEngine", "Columns", "Cpt", "Dpo",
    "Evaluate", "Filters", "HeldOut", "Kto", "Lora", "Model", "NearDuplicates", "OpenaiEngine", "Override",
    "Place", "Preferences", "Recipe", "Runner", "ScoresEngine", "ScriptedEngine", "Source", "Train",
    "VerifierSection", "VllmEngine", "WorkerEngine", "arena_overrides", "build_recipe", "dump_recipe",
    "load_recipe", "load_section", "stored_data", "stored_recipe",
]  # fmt: skip
