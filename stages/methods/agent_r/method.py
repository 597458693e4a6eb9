"""Agent-R: tree search in a text environment, and learning to turn back mid-episode (arXiv 2501.11425).

    search ──▶ pairs ──▶ the policy itself finds the first bad step ──▶ splice ──▶ replay in the environment
    one tree    a good and a bad   t'                                   bad 1..t', reflection, good rest
    per task    episode that part late

Instead of waiting for a failed episode to end, cut it at the earliest step that the current model itself
recognizes as wrong, let it say so, and continue with what a good episode did from where the two part. The
loss falls on the reflection and what follows, never on the bad steps. Good episodes are trained on whole.

generate makes one row per tree: a killed search finds its requests in the log and resumes mid-tree. critique
makes candidate records of it, filter drops those that cannot be one, verify replays each and stores what was
really observed. Source: Yuan et al. 2025.
"""

import asyncio
import importlib.metadata
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from pipeline.engines.base import EngineSection, Message, Sampling
from pipeline.errors import ConfigError
from pipeline.ids import digest, unit_interval
from pipeline.methods import Example, Method, Stage
from pipeline.protocols import UNTRAINED, Work
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.rundir import RoundKey
from pipeline.runner.llm import LLM, together
from stages.environments import REFLECT
from stages.environments import find as find_environment
from stages.methods.agent_r import plan
from stages.methods.agent_r.episodes import play
from stages.methods.agent_r.options import AgentROptions
from stages.methods.agent_r.records import episode_measures, judged_episode, make_record, transcript
from stages.methods.agent_r.search import (
    Games,
    SearchSettings,
    Tree,
    record_facts,
    search,
    search_counts,
    search_facts,
)
from stages.methods.agent_r.step_judge import JUDGE, Judge, OracleJudge, StepJudge
from stages.methods.agent_r.trajectories import (
    Pair,
    PairRules,
    Rejected,
    good_leaves,
    pairs,
    replay,
    steps_of,
    transition,
)
from stages.methods.agent_r.tree_judge import TreeJudge
from stages.tasks.games import LEARN_FROM, SOURCE
from stages.tasks.general import General

VERSION = 2
JUDGE_VERSION = 3
SEARCH_VERSION = 4
EPISODE_VERSION = 4
FORMER_EPISODE_VERSION = 3  # reflections are steps
RULES, REFLECTION = "agent_r/rules", "agent_r/reflect"
SENTENCES = 10  # in REFLECTION
JUDGES = {
    "policy": "the model itself",
    "untrained": "the untrained model",
    "tree": "the search tree",
    "oracle": "the solver of the environment",
}


class AgentR(Method):
    """One row per tree, then one per record."""

    name = "agent_r"
    Options = AgentROptions
    options: AgentROptions
    dataset = "turns"
    may_change = ("environments",)
    question_prompts = (RULES,)

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        sources = {
            "tasks": recipe.tasks,
            "demonstrations": recipe.demonstrations,
            "held_out.source": recipe.held_out.source,
        }
        for key, source in sources.items():
            if source is not None and source.source != SOURCE:
                raise ConfigError(
                    f"method agent_r plays in an environment: {key}.source is "
                    f"{source.source!r}, expected {SOURCE!r} "
                    "(and the environment's name as dataset)."
                )
        if recipe.filters.own:
            raise ConfigError("filters.own: method agent_r filters trajectories, not answers; remove it.")
        if recipe.train.kind != "sft":
            raise ConfigError(
                "method agent_r trains on episodes and makes no preference pairs: train.kind is "
                f"{recipe.train.kind!r}, expected 'sft'."
            )

    @property
    def general(self) -> General | None:
        """The option `general`."""
        return self.options.general

    @cached_property
    def _games(self) -> Games:
        return Games(self.options.environments or find_environment(self.recipe.tasks.dataset or "").at_once)

    def stages(self) -> dict[str, Stage]:
        """Search; pair and judge; drop what cannot be spliced; replay the rest."""
        o, environment = self.options, self._environment()
        tree = o.model_dump(
            mode="json", include={"width", "simulations", "depth", "exploration", "merge_states"}
        )
        pairing = {"arm", "beta", "alpha", "pairs_per_bad", "pairs_per_task", "good_per_task"}
        record = o.model_dump(mode="json", include={*pairing, "reason", "judge", "judge_tokens"})
        record |= {"oracle": 2} if o.judge == "oracle" else {}  # version of how it judges
        record |= {"reading": 2} if o.model_judges else {}  # and of how a judgement is read
        record["reflections"] = digest(self.prompts.source(REFLECTION))
        judged = (JUDGE,) if o.model_judges else ()
        searching, splicing = {**tree, **environment}, {"record_steps": o.record_steps}
        replaying = {"alpha": o.alpha, **environment}
        return {
            "generate": Stage(self.generate, {}, (RULES,), searching, SEARCH_VERSION, search_facts),
            "critique": Stage(self.critique, {}, judged, record, JUDGE_VERSION, record_facts),
            "filter": Stage(row=self.filter, config=splicing, version=VERSION),
            "verify": Stage(row=self.verify, config=replaying, version=VERSION),
        }

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """What a row of a stage asks of the model."""
        return plan.work(self.options, self.recipe.evaluate.samples, stage)

    def engine(self, stage: str, round_: int) -> EngineSection | str | None:
        """The untrained model where it is the judge."""
        return UNTRAINED if stage == "critique" and self.options.judge == "untrained" else None

    def _environment(self) -> dict[str, Any]:
        """Return what the environment's texts and rewards depend on, beside the tasks themselves."""
        name = self.recipe.tasks.dataset
        environment = find_environment(name or "")
        versions = {"environment": name, "environment_version": environment.version}
        if not environment.package:
            return versions
        try:
            return versions | {"package": importlib.metadata.version(environment.package)}
        except importlib.metadata.PackageNotFoundError:
            raise ConfigError(
                f"environment {name}: its package is not installed here: pip install {environment.package}"
            ) from None

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One task in, one tree out.

        Drop reasons: held_out_task (no test task may become a record), cut_off (every first turn hit
        max_tokens).
        """
        task, o = row.payload["entry"], self.options
        if row.payload.get("split") != LEARN_FROM:
            return Dropped("held_out_task", f"task {task['id']} is of split {row.payload.get('split')}")
        settings = SearchSettings(
            o.width, o.simulations, o.depth, o.exploration, o.merge_states, self.recipe.seed
        )
        async with self._games.play(task) as game:
            tree = await search(llm, game, self.question(row), settings)
            counts = search_counts(tree, game)
        if tree.root.end:
            limit = llm.sampling.max_tokens
            return Dropped("cut_off", f"all {o.width} first turns hit {limit} tokens (sampling.max_tokens)")
        made = {
            "tree": tree.to_json(),
            "search": counts,
            "model": llm.model,
            "sampling": llm.sampling.as_json,
        }
        return Kept([row.child("generate", f"{llm.round}/tree", **made)])

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """One tree in, candidate records out: revisions, with the step at which they turn back, and good
        episodes.

        Drop reasons: no_good_leaf, no_pair. A pair without a place to turn back is a row too, whose `problem`
        filter drops.
        """
        tree, o, alpha = Tree.from_json(row.payload["tree"]), self.options, self._alpha(llm)
        good = good_leaves(tree, alpha)
        if not good:
            best = row.payload["search"]["best_reward"]
            return Dropped(
                "no_good_leaf", f"{len(tree.leaves())} leaves, best reward {best:g}; alpha is {alpha:g}"
            )
        rules = PairRules(alpha, o.beta, o.pairs_per_bad, o.pairs_per_task, self.recipe.seed)
        chosen = [] if o.arm == "good_only" else pairs(tree, rules, row.id)
        if o.judge == "oracle":
            async with self._games.play(row.payload["entry"]) as game:
                records = await self._revisions(row, OracleJudge(game), tree, chosen)
        else:
            asked = StepJudge(llm, row.payload["question"], o.judge_tokens)
            judge = TreeJudge(tree, alpha, o.beta) if o.judge == "tree" else asked
            records = await self._revisions(row, judge, tree, chosen)
        if o.arm != "revision_only":
            good.sort(key=lambda leaf: unit_interval(self.recipe.seed, "good", row.id, leaf.id))
            for leaf in good[: o.good_per_task]:
                steps = steps_of(tree.path(leaf))
                records.append(make_record(row, "good", [], steps, leaves=[leaf.id], reward_good=leaf.reward))
        if not records:
            return Dropped("no_pair", f"{len(good)} good leaves, none of them better by more than {o.beta:g}")
        return Kept(records)

    async def _revisions(self, row: Row, judge: Judge, tree: Tree, chosen: Sequence[Pair]) -> list[Row]:
        return await together(self._revision(row, judge, tree, pair) for pair in chosen)

    async def _revision(self, row: Row, judge: Judge, tree: Tree, pair: Pair) -> Row:
        bad, good = tree.path(pair.bad), tree.path(pair.good)
        first_bad: int | None = None
        judgements: list[dict[str, Any]] = []
        if self.options.arm != "direct_revision":
            first_bad, judgements = await judge.first_bad(bad, pair.prefix, good[pair.prefix :])
        t = transition(pair.prefix, bad, first_bad)
        draw = unit_interval(self.recipe.seed, "reflection", row.id, pair.good.id, pair.bad.id)
        number = int(draw * SENTENCES)
        says_why = first_bad and first_bad == t and self.options.reason == "judge"
        reason = judgements[-1]["reason"] if says_why else ""
        reflection = self.prompts.render(REFLECTION, number=number, reason=reason, action=REFLECT)[0][
            "content"
        ]
        nowhere = f"the paths part after step {pair.prefix}, and step {len(bad)} ended the episode"
        return make_record(
            row,
            "revision",
            steps_of(bad[: t or 0]),
            steps_of(good[pair.prefix :]),
            leaves=[pair.good.id, pair.bad.id],
            prefix=pair.prefix,
            t_prime=t,
            first_bad=first_bad,
            bad_steps=len(bad),
            judge=judgements,
            reflection=reflection,
            signal=number,
            reward_good=pair.good.reward,
            reward_bad=pair.bad.reward,
            problem="" if t else "no_place_to_turn",
            detail="" if t else nowhere,
        )

    async def filter(self, row: Row, llm: LLM) -> Outcome:
        """Drop what cannot be spliced. Reasons: no_place_to_turn, too_many_steps."""
        record, limit = row.payload, self.options.record_steps
        steps = len(record["before"]) + len(record["after"]) + bool(record["reflection"])
        if record["problem"]:
            return Dropped(record["problem"], record["detail"], transcript(record))
        if steps > limit:
            return Dropped(
                "too_many_steps", f"{steps} turns, method.record_steps is {limit}", transcript(record)
            )
        return Kept([row.child("filter", 0)])

    async def verify(self, row: Row, llm: LLM) -> Outcome:
        """Replay the record. Drop reasons: over_before_reflection, step_not_executed, reward_too_low."""
        record = row.payload
        steps = (record["before"], record["reflection"], record["after"])
        async with self._games.play(record["entry"]) as game:
            played = await asyncio.to_thread(replay, game, *steps, self._alpha(llm))
        if isinstance(played, Rejected):
            return Dropped(played.reason, played.detail, transcript(record))
        verdict = {
            "correct": True,
            "extracted": None,
            "problem": "",
            "score": played.reward,
            "replay_verified": True,
        }
        made = {
            "messages": played.messages,
            "learn": played.learn,
            "reward": played.reward,
            "verdict": verdict,
        }
        return Kept([row.child("verify", 0, text="\n".join(m["content"] for m in played.messages), **made)])

    def _alpha(self, llm: LLM) -> float:
        return self.options.alpha[min(int(llm.round), len(self.options.alpha)) - 1]

    def question(self, row: Row) -> list[Message]:
        """The rules and the first observation, which start every episode.

        Questions that are no game are asked as they are.
        """
        entry = row.payload.get("entry") or {}
        if "environment" not in entry:
            return [{"role": "user", "content": row.payload["question"]}]
        return self.prompts.render(RULES, rules=entry["rules"], observation=row.payload["question"])

    def examples(self, row: Row) -> list[Example]:
        """A record, or a demonstration by the environment's solver: actions without thoughts, all of them
        trained on.
        """
        p = row.payload
        if "messages" in p:
            return [Example(self.question(row), p["messages"], tuple(p["learn"]), p["kind"])]
        messages: list[Message] = []
        for step in p["entry"]["episode"]:
            messages.append({"role": "assistant", "content": step.get("turn", f"Action: {step['action']}")})
            messages.append({"role": "user", "content": step["observation"]})
        messages = messages[:-1]
        learn = tuple(m["role"] == "assistant" for m in messages)
        return [Example(self.question(row), messages, learn, "demonstration")]

    def evaluation(self, name: str | None) -> Stage | None:
        """One greedy episode per held-out task, plus evaluate.samples sampled ones; None for a set that is no
        game.
        """
        if name is not None and self.recipe.evaluate.sets[name].source != SOURCE:
            return None
        return self._episodes(self.evaluate)

    def resumption(self) -> Stage:
        """The paper's measure of revision: a failed episode, continued by the model from its first half."""
        return self._episodes(self.resume)

    def _episodes(self, function: Any) -> Stage:
        o = self.options
        old = o.evaluate_steps == "depth"  # as older versions play and record it
        limit = {"depth": o.depth} if old else {"steps": o.steps, "free_reflections": o.free_reflections}
        version = FORMER_EPISODE_VERSION if old else EPISODE_VERSION
        return Stage(row=function, prompts=(RULES,), config=limit | self._environment(), version=version)

    async def evaluate(self, row: Row, llm: LLM) -> Outcome:
        """One held-out task in, one row with its judged episodes out."""
        settings = self.recipe.evaluate
        greedy = await self._episode(row, llm, 0.0, 0)
        samples = [await self._episode(row, llm, settings.temperature, i) for i in range(settings.samples)]
        return Kept([row.child("evaluate", llm.round, greedy=greedy, samples=samples)])

    async def resume(self, row: Row, llm: LLM) -> Outcome:
        """One failed episode in, its continuation from the first half out.

        Drop reason: no_beginning (a single step).
        """
        failed = row.payload["greedy"]["actions"]
        before = failed[: len(failed) // 2]
        if not before:
            return Dropped("no_beginning", f"the failed episode has {len(failed)} actions")
        return Kept([row.child("resume", llm.round, resumed=await self._episode(row, llm, 0.0, 0, before))])

    async def _episode(
        self, row: Row, llm: LLM, temperature: float, sample: int, before: Sequence[str] = ()
    ) -> dict[str, Any]:
        limit = self.recipe.evaluate.max_tokens or self.recipe.sampling.max_tokens
        sampling = Sampling(temperature=temperature, max_tokens=limit, stop=self.recipe.sampling.stop)
        question, o = self.question(row), self.options
        async with self._games.play(row.payload["entry"]) as game:
            played = await play(
                llm, game, question, o.steps, sampling, RULES, before, sample, o.free_reflections
            )
        return judged_episode(played)

    def measures(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Score, steps, share of possible actions, reflections, and loops of the greedy episodes."""
        greedy = [row.payload["greedy"] for row in rows if "actions" in row.payload["greedy"]]
        return episode_measures(greedy, bool(self.options.free_reflections)) if greedy else {}

    def verified_by(self, round_: int) -> str:
        """The environment."""
        return "the reward of the episode, replayed in the environment"

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Count the records by kind, and the revisions whose bad step the judge found."""
        kinds, judged = [], 0
        for row in rows:
            kinds.append(row.payload["kind"])
            judged += bool(row.payload.get("first_bad"))
        counted = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds))) or "none"
        judge = JUDGES[self.options.judge]
        revisions = kinds.count("revision")
        return [
            f"Records: {counted}",
            f"First bad step found by {judge}: in {judged} of {revisions} revisions",
        ]
