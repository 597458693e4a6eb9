"""Engines: what answers requests. `engine.kind` in a recipe names one of these, or `my_module:MyEngine`.

An engine is one class; pipeline/engines/base.py says what it declares.
"""

from pipeline.registry import register

register("engine", "vllm", "pipeline.engines.vllm:VllmClient")
register("engine", "openai", "pipeline.engines.openai:OpenAIClient")
register("engine", "scores", "pipeline.engines.scores:ScoresClient")
register("engine", "classifier", "pipeline.engines.classifier:Classifier")
register("engine", "scripted", "pipeline.engines.scripted:ScriptedClient")
