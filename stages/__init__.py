"""What happens to rows.

Importing this package makes the built-in methods, sources, environments and verifiers known by name.
"""

from pipeline.registry import register

register("method", "direct", "stages.methods.direct.method:Direct")
register("method", "best_of_n", "stages.methods.best_of_n.method:BestOfN")
register("method", "regenesis", "stages.methods.regenesis.method:ReGenesis")
register("method", "self", "stages.methods.self.method:SelfEvolution")
register("method", "agent_r", "stages.methods.agent_r.method:AgentR")
register("method", "self_lengthen", "stages.methods.self_lengthen.method:SelfLengthen")
register("method", "entigraph", "stages.methods.entigraph.method:EntiGraph")

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

register("verifier", "ground_truth", "stages.steps.verifiers:ground_truth")
register("verifier", "task_scorer", "stages.steps.verifiers:task_scorer")
register("verifier", "code_tests", "stages.steps.code_tests:code_tests")
register("verifier", "accept_all", "stages.steps.verifiers:accept_all")
register("verifier", "judge", "stages.judges.judge:Judge")
register("verifier", "pairwise_judge", "stages.judges.pairwise:PairwiseJudge")
register("verifier", "reward_model", "stages.judges.reward:RewardModel")
register("verifier", "all", "stages.judges.combined:AllOf")
register("verifier", "any", "stages.judges.combined:AnyOf")
register("verifier", "weighted", "stages.judges.combined:WeightedMean")
# What evaluation scores single answers with, since a vote needs many.
register("verifier", "majority_vote", "stages.steps.verifiers:ground_truth")
