"""Agent-R: tree search in a text environment, and learning to turn round midway (Yuan et al. 2025, arXiv 2501.11425).

    search ──▶ pairs ──▶ the policy itself finds the first bad step ──▶ splice ──▶ played again in the environment
    one tree    good and bad episode      t'                            bad 1..t', reflection, good rest
    per task    that part late

Do not wait for the end of a failed episode: cut it at the earliest step that the model of this round can itself tell to be wrong, let
it say so, and go on with what a good episode did from where the two part. Loss falls on the reflection and what follows, never on the
bad steps. Good episodes are learnt whole.

generate gives one row for each tree: a killed search finds its requests in the log and goes on mid-tree, and a tree is looked at as one
thing. critique makes candidate records of it, filter drops those that cannot be one, verify plays each again and stores what was
really observed.
"""

import asyncio
import importlib.metadata
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.engines.base import Message, Sampling
from pipeline.errors import ConfigError
from pipeline.ids import digest, row_id, unit_interval
from pipeline.methods import Example, Method, Options, Stage
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM, together
from stages.environments import REFLECT
from stages.environments import find as find_environment
from stages.methods.agent_r.episodes import LONGEST_LOOP, Episode, bare_turn, loops, play
from stages.methods.agent_r.search import (
    CUT_OFF,
    REFUSED,
    SOLVED,
    Games,
    SearchSettings,
    Tree,
    record_facts,
    search,
    search_facts,
)
from stages.methods.agent_r.step_judge import JUDGE, OracleJudge, StepJudge
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
from stages.tasks.games import LEARN_FROM, SOURCE
from stages.tasks.general import General

VERSION = 2
SEARCH_VERSION = 3
RULES, REFLECTION = "agent_r/rules", "agent_r/reflect"
SENTENCES = 10  # in REFLECTION


class AgentROptions(Options):
    """Options of `agent_r`; the defaults are the paper's sizes."""

    name: Literal["agent_r"] = "agent_r"
    arm: Literal["agent_r", "direct_revision", "revision_only", "good_only"] = Field(
        "agent_r",
        description="direct_revision: bad episodes whole, nobody judges them; revision_only: without good episodes; good_only: rejection sampling",
    )
    width: int = Field(4, ge=1, description="turns sampled for each node that is expanded, in one request")
    simulations: int = Field(8, ge=1, description="lines driven down to a leaf, per tree")
    depth: int = Field(20, ge=1, description="actions in an episode, in search and evaluation")
    exploration: float = Field(0.25, ge=0, description="c of UCB1; rewards are within [0, 1]")
    merge_states: bool = Field(
        True, description="a state that stands elsewhere in the tree is not searched on a second time"
    )
    alpha: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.5, 0.7, 1.0],
        min_length=1,
        description="least reward of a good episode, by round; the last one goes on",
    )
    beta: float = Field(
        0.2, ge=0, lt=1, description="a good episode's reward exceeds the bad one's by more than this"
    )
    pairs_per_bad: int = Field(2, ge=1, description="good episodes that one bad episode is paired with")
    pairs_per_task: int = Field(32, ge=1)
    good_per_task: int = Field(8, ge=1, description="good episodes learnt of one tree (seeded choice)")
    record_steps: int = Field(40, ge=2, description="a spliced episode of more turns is dropped")
    reason: Literal["sentence", "judge"] = Field(
        "sentence",
        description="what a reflection says: one of ten sentences, or why the judge found the step bad",
    )
    judge: Literal["policy", "oracle"] = Field(
        "policy",
        description="who looks for the first bad step: the model, or the environment's solver (an upper bound)",
    )
    judge_tokens: int = Field(256, ge=8)
    general: General | None = Field(
        None,
        description="general conversations in each round's dataset, and the share of tokens that is left to the method",
    )
    environments: int | None = Field(
        None,
        ge=1,
        description="at once in one stage worker; default: textworld_express 16, scienceworld 4 (each is a Java process), others any number",
    )

    def fingerprint(self) -> dict[str, Any]:
        """All but how many environments there are at once."""
        return self.model_dump(mode="json", exclude={"environments"})


class AgentR(Method):
    """One row per tree, then one per record."""

    name = "agent_r"
    Options = AgentROptions
    may_change = ("environments",)
    question_prompts = (RULES,)
    dataset = "turns"

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        if recipe.tasks.source != SOURCE:
            raise ConfigError(
                f"method agent_r plays in an environment: expected tasks.source: {SOURCE}, and the environment's name as tasks.dataset."
            )
        for key, source in (
            ("demonstrations", recipe.demonstrations),
            ("held_out.source", recipe.held_out.source),
        ):
            if source is not None and source.source != SOURCE:
                raise ConfigError(
                    f"method agent_r plays in an environment: {key} is of source {source.source!r}, expected {SOURCE!r}."
                )
        if recipe.train.kind != "sft":
            raise ConfigError(
                f"method agent_r learns episodes, of which it makes no preference pairs: train.kind is {recipe.train.kind!r}, expected 'sft'."
            )

    @property
    def general(self) -> General | None:
        """The option `general`."""
        return self.options.general

    @cached_property
    def _games(self) -> Games:
        return Games(self.options.environments or find_environment(self.recipe.tasks.dataset or "").at_once)

    def stages(self) -> dict[str, Stage]:
        """Search; pair and judge; drop what cannot be spliced; play what is left again."""
        o, plays = self.options, self._plays()
        tree = o.model_dump(
            mode="json", include={"width", "simulations", "depth", "exploration", "merge_states"}
        )
        record = o.model_dump(
            mode="json",
            include={
                "arm",
                "beta",
                "alpha",
                "pairs_per_bad",
                "pairs_per_task",
                "good_per_task",
                "reason",
                "judge",
                "judge_tokens",
            },
        )
        record |= {"oracle": 2} if o.judge == "oracle" else {}  # how it judges
        record["reflections"] = digest(self.prompts.source(REFLECTION))
        judged = o.arm in ("agent_r", "revision_only") and o.judge == "policy"
        return {
            "generate": Stage(
                row=self.generate,
                prompts=(RULES,),
                config={**tree, **plays},
                version=SEARCH_VERSION,
                summary=search_facts,
            ),
            "critique": Stage(
                row=self.critique,
                prompts=(JUDGE,) if judged else (),
                config=record,
                version=VERSION,
                summary=record_facts,
            ),
            "filter": Stage(row=self.filter, config={"record_steps": o.record_steps}, version=VERSION),
            "verify": Stage(row=self.verify, config={"alpha": o.alpha, **plays}, version=VERSION),
        }

    def _plays(self) -> dict[str, Any]:
        """Return what the environment's texts and rewards depend on, beside the tasks themselves."""
        environment = find_environment(self.recipe.tasks.dataset or "")
        played = {"environment": self.recipe.tasks.dataset, "environment_version": environment.version}
        if not environment.package:
            return played
        try:
            return played | {"package": importlib.metadata.version(environment.package)}
        except importlib.metadata.PackageNotFoundError:
            raise ConfigError(
                f"environment {self.recipe.tasks.dataset}: its package is not installed here: pip install {environment.package}"
            ) from None

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One task in, one tree out. Drop reasons: held_out_task (no test task gets as far as a record, F18), cut_off (every first turn)."""
        if row.payload.get("split") != LEARN_FROM:
            return Dropped(
                "held_out_task", f"task {row.payload['entry']['id']} is of split {row.payload.get('split')}"
            )
        o = self.options
        settings = SearchSettings(
            o.width, o.simulations, o.depth, o.exploration, o.merge_states, self.recipe.seed
        )
        async with self._games.play(row.payload["entry"]) as game:
            tree = await search(llm, game, self.question(row), settings)
        if tree.root.end:
            return Dropped(
                "cut_off",
                f"none of the {o.width} first turns was whole after {llm.sampling.max_tokens} tokens (sampling.max_tokens)",
            )
        made = len(tree.nodes) - 1
        counts = {
            "llm_calls": sum(bool(n.children) or n.end in (REFUSED, CUT_OFF) for n in tree.nodes),
            "environment_steps": game.steps + game.replayed,
            "states_restored": game.restored,
            "children": made,
            "steps_per_child": round((game.steps + game.replayed) / made, 3),
            "leaves": len(tree.leaves()),
            "best_reward": max((leaf.reward for leaf in tree.leaves()), default=0.0),
        }
        return Kept(
            [
                row.child(
                    "generate",
                    f"{llm.round}/tree",
                    tree=tree.to_json(),
                    search=counts,
                    model=llm.model,
                    sampling=llm.sampling.as_json,
                )
            ]
        )

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """One tree in, candidate records out: revisions with the step at which they turn round, and good episodes.

        Drop reasons: no_good_leaf, no_pair. A pair without a place to turn round is a row all the same, with its `problem`, which filter drops.
        """
        tree, o, alpha = Tree.from_json(row.payload["tree"]), self.options, self._alpha(llm)
        good = good_leaves(tree, alpha)
        if not good:
            return Dropped(
                "no_good_leaf",
                f"{len(tree.leaves())} leaves, the best reward {row.payload['search']['best_reward']:g}; alpha is {alpha:g}",
            )
        rules = PairRules(alpha, o.beta, o.pairs_per_bad, o.pairs_per_task, self.recipe.seed)
        chosen = [] if o.arm == "good_only" else pairs(tree, rules, row.id)
        if o.judge == "oracle":
            async with self._games.play(row.payload["entry"]) as game:
                judge = OracleJudge(game)
                made = await together(self._revision(row, judge, tree, pair) for pair in chosen)
        else:
            judge = StepJudge(llm, row.payload["question"], o.judge_tokens)
            made = await together(self._revision(row, judge, tree, pair) for pair in chosen)
        if o.arm != "revision_only":
            draw = sorted(good, key=lambda leaf: unit_interval(self.recipe.seed, "good", row.id, leaf.id))[
                : o.good_per_task
            ]
            made += [
                self._record(
                    row, "good", [], steps_of(tree.path(leaf)), leaves=[leaf.id], reward_good=leaf.reward
                )
                for leaf in draw
            ]
        return (
            Kept(made)
            if made
            else Dropped(
                "no_pair", f"{len(good)} good leaves, and none that is worse by more than {o.beta:g}"
            )
        )

    async def _revision(self, row: Row, judge: StepJudge | OracleJudge, tree: Tree, pair: Pair) -> Row:
        bad, good = tree.path(pair.bad), tree.path(pair.good)
        first_bad, judgements = (
            (None, []) if self.options.arm == "direct_revision" else await judge.first_bad(bad, pair.prefix)
        )
        t = transition(pair.prefix, bad, first_bad)
        number = int(
            unit_interval(self.recipe.seed, "reflection", row.id, pair.good.id, pair.bad.id) * SENTENCES
        )
        reason = (
            judgements[-1]["reason"]
            if first_bad and first_bad == t and self.options.reason == "judge"
            else ""
        )
        said = self.prompts.render(REFLECTION, number=number, reason=reason, action=REFLECT)[0]["content"]
        return self._record(
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
            reflection=said,
            signal=number,
            reward_good=pair.good.reward,
            reward_bad=pair.bad.reward,
            problem="" if t else "no_place_to_turn",
            detail=""
            if t
            else f"the ways part after step {pair.prefix}, and step {len(bad)} ended the episode",
        )

    def _record(self, row: Row, kind: str, before: list[dict], after: list[dict], **facts: Any) -> Row:
        """Return a candidate record. The tree stays in the tree's row."""
        kept = {k: v for k, v in row.payload.items() if k not in ("tree", "search")}
        record = {
            "kind": kind,
            "before": before,
            "after": after,
            "reflection": "",
            "problem": "",
            "detail": "",
            **facts,
        }
        return Row(
            row_id([row.id], "critique", f"{kind}/{'/'.join(map(str, facts['leaves']))}"),
            {**kept, **record},
            [row.id],
        )

    async def filter(self, row: Row, llm: LLM) -> Outcome:
        """Drop what cannot be spliced. Reasons: no_place_to_turn, too_many_steps."""
        record = row.payload
        steps = len(record["before"]) + len(record["after"]) + bool(record["reflection"])
        if record["problem"]:
            return Dropped(record["problem"], record["detail"], _transcript(record))
        if steps > self.options.record_steps:
            return Dropped(
                "too_many_steps",
                f"{steps} turns, method.record_steps is {self.options.record_steps}",
                _transcript(record),
            )
        return Kept([row.child("filter", 0)])

    async def verify(self, row: Row, llm: LLM) -> Outcome:
        """Play the record again. Reasons: over_before_reflection, step_not_executed, reward_too_low."""
        record = row.payload
        async with self._games.play(record["entry"]) as game:
            found = await asyncio.to_thread(
                replay, game, record["before"], record["reflection"], record["after"], self._alpha(llm)
            )
        if isinstance(found, Rejected):
            return Dropped(found.reason, found.detail, _transcript(record))
        messages = found.messages
        verdict = {
            "correct": True,
            "extracted": None,
            "problem": "",
            "score": found.reward,
            "replay_verified": True,
        }
        text = "\n".join(m["content"] for m in messages)
        return Kept(
            [
                row.child(
                    "verify",
                    0,
                    messages=messages,
                    learn=found.learn,
                    reward=found.reward,
                    text=text,
                    verdict=verdict,
                )
            ]
        )

    def _alpha(self, llm: LLM) -> float:
        return self.options.alpha[min(int(llm.round), len(self.options.alpha)) - 1]

    def question(self, row: Row) -> list[Message]:
        """The rules and the first observation: how every episode begins, in search, training and evaluation. Other questions are asked as they are."""
        if not _is_game(row):
            return [{"role": "user", "content": row.payload["question"]}]
        return self.prompts.render(
            RULES, rules=row.payload["entry"]["rules"], observation=row.payload["question"]
        )

    def examples(self, row: Row) -> list[Example]:
        """A record, or a demonstration of the environment's own solver: actions without thoughts, all of them learnt."""
        if "messages" in row.payload:
            return [
                Example(
                    self.question(row),
                    row.payload["messages"],
                    tuple(row.payload["learn"]),
                    row.payload["kind"],
                )
            ]
        said = [(bare_turn(step["action"]), step["observation"]) for step in row.payload["entry"]["episode"]]
        messages = [
            {"role": role, "content": text}
            for turn in said
            for role, text in zip(("assistant", "user"), turn, strict=True)
        ][:-1]
        return [
            Example(
                self.question(row),
                messages,
                tuple(m["role"] == "assistant" for m in messages),
                "demonstration",
            )
        ]

    def evaluation(self, name: str | None) -> Stage | None:
        """A greedy episode on each held-out task, and sampled ones if evaluate.samples says so; None for a set that is no game."""
        if name is not None and self.recipe.evaluate.sets[name].source != SOURCE:
            return None
        return Stage(
            row=self.evaluate,
            prompts=(RULES,),
            config={"depth": self.options.depth, **self._plays()},
            version=VERSION,
        )

    async def evaluate(self, row: Row, llm: LLM) -> Outcome:
        """One held-out task in, one row with its judged episodes out."""
        settings = self.recipe.evaluate
        limit = {
            "max_tokens": settings.max_tokens or self.recipe.sampling.max_tokens,
            "stop": self.recipe.sampling.stop,
        }
        greedy = await self._episode(row, llm, Sampling(temperature=0, **limit), 0)
        samples = [
            await self._episode(row, llm, Sampling(temperature=settings.temperature, **limit), i)
            for i in range(settings.samples)
        ]
        return Kept([row.child("evaluate", llm.round, greedy=greedy, samples=samples)])

    def resumption(self) -> Stage:
        """The paper's measure of revision (1.7): what becomes of a failed episode when the model goes on from its first half."""
        return Stage(
            row=self.resume,
            prompts=(RULES,),
            config={"depth": self.options.depth, **self._plays()},
            version=VERSION,
        )

    async def resume(self, row: Row, llm: LLM) -> Outcome:
        """One failed episode in, the episode that went on from its first half out. Drop reason: no_beginning (of a single step)."""
        failed = row.payload["greedy"]["actions"]
        before = failed[: len(failed) // 2]
        if not before:
            return Dropped("no_beginning", f"the episode that failed has {len(failed)} actions")
        sampling = Sampling(
            temperature=0,
            max_tokens=self.recipe.evaluate.max_tokens or self.recipe.sampling.max_tokens,
            stop=self.recipe.sampling.stop,
        )
        return Kept(
            [row.child("resume", llm.round, resumed=await self._episode(row, llm, sampling, 0, before))]
        )

    async def _episode(
        self, row: Row, llm: LLM, sampling: Sampling, sample: int, before: Sequence[str] = ()
    ) -> dict[str, Any]:
        async with self._games.play(row.payload["entry"]) as game:
            episode = await play(
                llm, game, self.question(row), self.options.depth, sampling, RULES, before, sample
            )
        return _judged(episode)

    def measures(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Mean score, steps, share of actions that were possible, and loops by length (Agent-R 1.7) of the greedy episodes."""
        greedy = [row.payload["greedy"] for row in rows if "actions" in row.payload["greedy"]]
        if not greedy:
            return {}
        found = {"score": [g["score"] for g in greedy], "steps": [float(len(g["actions"])) for g in greedy]}
        found["executed"] = [g["executed"] / len(g["actions"]) for g in greedy]
        return found | {
            f"loops of {n}": [float(g["loops"][n - 1]) for g in greedy] for n in range(1, LONGEST_LOOP + 1)
        }

    def verified_by(self, round_: int) -> str:
        """The environment."""
        return "the reward of the episode, played again in the environment"

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Say what sorts of records there are, and in how many revisions the model found the bad step itself."""
        kinds, found = [], 0
        for row in rows:
            kinds.append(row.payload["kind"])
            found += bool(row.payload.get("first_bad"))
        counted = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))
        return [
            f"Records: {counted or 'none'}",
            f"First bad step found by {'the model itself' if self.options.judge == 'policy' else 'the solver of the environment'}: in {found} of {kinds.count('revision')} revisions",
        ]


def _is_game(row: Row) -> bool:
    return "environment" in (row.payload.get("entry") or {})


def _judged(episode: Episode) -> dict[str, Any]:
    return {
        "text": "\n".join(m["content"] for m in episode.messages),
        "correct": episode.reward >= SOLVED,
        "extracted": f"{episode.reward:g}",
        "tokens": episode.tokens,
        "score": episode.reward,
        "actions": episode.actions,
        "executed": episode.executed,
        "end": episode.end,
        "loops": loops(episode.actions),
    }


def _transcript(record: dict[str, Any]) -> str:
    lines = [f"> {step['action']}\n{step['observation']}" for step in record["before"]]
    lines += [record["reflection"]] if record["reflection"] else []
    return "\n".join([*lines, *(f"> {step['action']}\n{step['observation']}" for step in record["after"])])
