"""What happens to rows. Importing this package makes the built-in methods, sources, environments and verifiers known by name."""

from pipeline.registry import register

register("method", "direct", "stages.direct:Direct")
register("method", "regenesis", "stages.regenesis:ReGenesis")
register("method", "self", "stages.self_evolution:SelfEvolution")
register("method", "agent_r", "stages.agent_r:AgentR")
register("method", "self_lengthen", "stages.self_lengthen:SelfLengthen")
register("method", "entigraph", "stages.entigraph:EntiGraph")

register("source", "reasoning_gym", "stages.tasks.gym:reasoning_gym")
register("source", "jsonl", "stages.tasks.files:jsonl")
register("source", "csv", "stages.tasks.files:csv")
register("source", "parquet", "stages.tasks.files:parquet")
register("source", "hf", "stages.tasks.hub:hf")
register("source", "documents", "stages.tasks.documents:documents")
register("source", "environment", "stages.tasks.games:environment")

register("environment", "crafting", "stages.environments.crafting:Crafting")
register("environment", "textworld_express", "stages.environments.textworld_express:TextWorldExpress")
register("environment", "scienceworld", "stages.environments.scienceworld:ScienceWorld")

register("verifier", "ground_truth", "stages.verifiers:ground_truth")
register("verifier", "task_scorer", "stages.verifiers:task_scorer")
register("verifier", "majority_vote", "stages.verifiers:ground_truth")  # to evaluate with: a vote needs many answers, a score one
