"""What happens to rows. Importing this package makes the built-in methods, sources and verifiers known by name."""

from pipeline.registry import register

register("method", "direct", "stages.direct:Direct")
register("method", "regenesis", "stages.regenesis:ReGenesis")
register("method", "self_lengthen", "stages.self_lengthen:SelfLengthen")

register("source", "reasoning_gym", "stages.tasks.gym:reasoning_gym")
register("source", "jsonl", "stages.tasks.files:jsonl")
register("source", "csv", "stages.tasks.files:csv")
register("source", "parquet", "stages.tasks.files:parquet")
register("source", "hf", "stages.tasks.hub:hf")

register("verifier", "ground_truth", "stages.verifiers:ground_truth")
register("verifier", "task_scorer", "stages.verifiers:task_scorer")
register("verifier", "majority_vote", "stages.verifiers:ground_truth")  # to evaluate with: a vote needs many answers, a score one
