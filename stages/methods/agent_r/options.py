"""Options of the method `agent_r`."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.methods import Options
from stages.tasks.general import General

FREE_REFLECTIONS = 5  # of an episode; a player that only ever reflects has to come to an end


class AgentROptions(Options):
    """Options of `agent_r`; the defaults are the paper's sizes."""

    former: ClassVar[dict[str, Any]] = {"evaluate_steps": "depth"}
    name: Literal["agent_r"] = "agent_r"
    arm: Literal["agent_r", "direct_revision", "revision_only", "good_only"] = "agent_r"
    """direct_revision: whole bad episodes, without a judge; revision_only: no good episodes; good_only:
    rejection sampling.
    """
    width: int = Field(4, ge=1)
    """Turns sampled per expanded node, in one request."""
    simulations: int = Field(8, ge=1)
    """Descents to a leaf, per tree."""
    depth: int = Field(20, ge=1)
    """Turns of an episode in the search, reflections included."""
    evaluate_steps: Annotated[int, Field(ge=1)] | Literal["depth"] | None = None
    """Actions in an episode of evaluation, and after the beginning of a resumed one; reflections are none.
    Default: twice `depth`. depth: as many turns as in the search, reflections included, which is what runs of
    older versions measured.
    """
    exploration: float = Field(0.25, ge=0)
    """c of UCB1; rewards lie within [0, 1]."""
    merge_states: bool = True
    """Do not search a state again that occurs elsewhere in the tree."""
    alpha: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.5, 0.7, 1.0], min_length=1)
    """Minimum reward of a good episode, by round; the last value applies to all later rounds."""
    beta: float = Field(0.2, ge=0, lt=1)
    """A good episode's reward exceeds the bad one's by more than this."""
    pairs_per_bad: int = Field(2, ge=1)
    """Good episodes that one bad episode is paired with."""
    pairs_per_task: int = Field(32, ge=1)
    """Pairs of one tree, at most."""
    good_per_task: int = Field(8, ge=1)
    """Good episodes of one tree that are trained on (seeded choice)."""
    record_steps: int = Field(40, ge=2)
    """A spliced episode with more turns is dropped."""
    reason: Literal["sentence", "judge"] = "sentence"
    """Content of a reflection: one of ten sentences, or the judge's reason for rejecting the step."""
    judge: Literal["policy", "untrained", "tree", "oracle"] = "policy"
    """Who looks for the first bad step: the round's model, the untrained model, the search tree itself
    (tree_judge.py), or the environment's solver (an upper bound).
    """
    judge_tokens: int = Field(256, ge=8)
    """Tokens of one judgment."""
    general: General | None = None
    """General conversations in each round's dataset, and the share of tokens left to the method."""
    environments: int | None = Field(None, ge=1)
    """Environments per stage worker; default: textworld_express 16, scienceworld 4 (a Java process each),
    others unlimited.
    """

    @property
    def free_reflections(self) -> int:
        """Reflections of an episode of evaluation that use no step."""
        return 0 if self.evaluate_steps == "depth" else FREE_REFLECTIONS

    @property
    def steps(self) -> int:
        """Actions in an episode of evaluation."""
        return self.depth if self.evaluate_steps == "depth" else self.evaluate_steps or 2 * self.depth

    @property
    def model_judges(self) -> bool:
        """Whether a model is asked for the first bad step."""
        return self.arm in ("agent_r", "revision_only") and self.judge in ("policy", "untrained")

    def fingerprint(self) -> dict[str, Any]:
        """What records depend on: neither the number of concurrent environments nor evaluation."""
        return self.model_dump(mode="json", exclude={"environments", "evaluate_steps"})
