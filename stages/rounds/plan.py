"""The plan of a run: rows, requests, tokens, minutes, memory and disk, before anything runs.

Everything is an estimate but what the run itself, or a sample of it, has measured.
"""

import asyncio
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.checks.machine import Machine
from pipeline.config import Recipe, VllmEngine
from pipeline.errors import ConfigError
from pipeline.estimates import (
    PROMPT_SPEED,
    ModelSize,
    Need,
    engine_need,
    model_size,
    trained_per_second,
    training_need,
    written_per_second,
)
from pipeline.protocols import Plans
from pipeline.round import Round
from pipeline.rundir import RoundKey, RunDir, differences, may_change
from pipeline.stage import PROPOSE, STAGES
from pipeline.training.workers import check_shares, settled
from stages.rounds.measured import Measured, in_run, sampled
from stages.rounds.planned import SHARE, Planned, Planner, Span, too_few_tasks
from stages.rounds.planned_training import Training, trainings
from stages.rounds.seats import chosen_by
from stages.tasks.freeze import freeze

# Seconds that pass before the first token: a stage's worker, an engine, a training.
STAGE_START, ENGINE_START, TRAIN_START = 3, 45, 25
TEXT_BYTES = 16  # of each token: about 4 characters, in the log and in the parts of later stages
_GENERATING = (PROPOSE, *STAGES)


class Line(NamedTuple):
    """One line of the plan. For a training, `rows` are examples, `requests` steps and `completion` is what
    it sees. `seconds` is None where the speed is unknown.
    """

    round: RoundKey
    stage: str
    rows: Span
    requests: Span
    prompt: Span
    completion: Span
    seconds: Span | None
    trains: bool = False
    known: bool = True
    done: bool = False


class Plan(NamedTuple):
    """A run's plan. `problems` are sentences about what does not fit, `notes` about how it was reckoned."""

    recipe: Recipe
    size: ModelSize
    tasks: dict[str, int]
    lines: list[Line]
    needs: list[Need]
    disk: int
    free: int | None
    problems: list[str]
    notes: list[str]


def plan(recipe: Recipe, run: RunDir, machine: Machine, sample: int = 0) -> Plan:
    """Plan a run in `run`, with what it has measured if it has begun; `sample` questions are asked first.

    Sampling starts Ray, or connects to runner.address. Raises SelfloopError for whatever keeps the run from
    starting.
    """
    same = run.exists() and not _changed(run, recipe)
    begun = run if same and run.manifest(run.path("tasks")) else None
    with tempfile.TemporaryDirectory(prefix="selfloop-plan-") as folder:
        tasks = begun or RunDir(folder)
        if begun is None:
            freeze(tasks, recipe)
        size = model_size(recipe.model.base, recipe.model.revision)
        measured, notes = in_run(begun, recipe) if begun else {}, []
        if run.exists() and not same:
            notes.append(f"{run.root} was started with another recipe: it is not looked at.")
        if sample:
            if run.local is None:
                raise ConfigError("--sample needs a --run directory on a mounted file system.")
            found, why = asyncio.run(sampled(recipe, tasks, sample, run.local.parent))
            measured |= found
            notes += [f"The sample ended early: {why}"] if why else []
        round_ = Round(tasks, 1, recipe)
        measured = _with_answers(measured, round_.method)
        planner = Planner(tasks, round_, _tokenizer(round_, size), measured, begun)
        return _assemble(planner, size, machine, measured, begun, run, notes)


def _with_answers(measured: Mapping[str, Measured], method: Any) -> dict[str, Measured]:
    """Return `measured` with the number of answers, if generate asks the plain question once and no more."""
    known, work = dict(measured), method.work("generate", 1) if isinstance(method, Plans) else None
    plain = work and len(work.asks) == 1 and not work.asks[0].step and work.asks[0].most == 1
    if work and plain and (generate := known.get("generate")):
        known["generate"] = generate._replace(answers=work.asks[0].n * generate.requests)
    return known


def _assemble(
    planner: Planner,
    size: ModelSize,
    machine: Machine,
    measured: Mapping[str, Measured],
    begun: RunDir | None,
    run: RunDir,
    notes: list[str],
) -> Plan:
    recipe = planner.recipe
    stages = list(planner.stages(recipe.rounds))
    taught = trainings(planner, stages, measured, begun)
    lines = list(_lines(planner, stages, taught, size, machine))
    train = recipe.train if recipe.runner.address else check_shares(recipe.train, machine.gpus)
    needs = [training_need(size, settled(train, machine.gpus, size), machine)]
    if engines := [e for e in (recipe.engine, _evaluator(recipe)) if isinstance(e, VllmEngine)]:
        needs.insert(0, engine_need(size, engines[0], machine))
    disk, free = _disk(recipe, size, lines, taught), _free(run)
    problems = [*_memory_problems(recipe, size, machine, needs), too_few_tasks(planner, recipe.rounds)]
    if free is not None and disk > free:
        problems.append(
            f"The disk has {free / 2**30:.1f} GiB free where the run goes, and needs about "
            f"{disk / 2**30:.1f}: make room, or choose another --run."
        )
    notes += _notes(planner, lines, measured, begun)
    tasks = {which: planner.count(which) for which in ("train", "held_out", "demonstrations")}
    tasks |= {name: planner.count(f"sets/{name}") for name in recipe.evaluate.sets}
    return Plan(recipe, size, tasks, lines, needs, disk, free, [p for p in problems if p], notes)


def _lines(
    planner: Planner, stages: list[Planned], taught: list[Training], size: ModelSize, machine: Machine
) -> Iterator[Line]:
    """Yield the lines in the order of the run: a round's stages, its trainings, its evaluations."""
    recipe = planner.recipe
    for number in dict.fromkeys(s.round for s in stages):
        of_round = [s for s in stages if s.round == number]
        for s in (s for s in of_round if s.stage in _GENERATING):
            yield _line(planner, s, size, machine)
        for t in (t for t in taught if t.round == number):
            train = settled(recipe.train, machine.gpus, size)
            speed = t.per_second or trained_per_second(size, train, machine)
            extra = Span(TRAIN_START + ENGINE_START, TRAIN_START + ENGINE_START)
            seconds = Span() if t.done else t.tokens.times(1 / speed).plus(extra)
            yield Line(number, t.stage, t.examples, t.steps, Span(), t.tokens, seconds, True, done=t.done)
        for s in (s for s in of_round if s.stage not in _GENERATING):
            yield _line(planner, s, size, machine)


def _line(planner: Planner, s: Planned, size: ModelSize, machine: Machine) -> Line:
    figures = (s.round, s.stage, s.rows, s.requests, s.prompt, s.completion)
    if s.done or s.seconds is not None:
        known = Span(s.seconds or 0, s.seconds or 0)
        return Line(*figures, known, done=s.done)
    engine: Any = _engine(planner, s)
    if not s.asked or (s.requests.high and not isinstance(engine, VllmEngine)):
        return Line(*figures, None, known=s.asked)
    seconds = Span(STAGE_START, STAGE_START) if s.rows.high else Span()
    if s.requests.high:
        runner, each = planner.recipe.runner, s.completions.high / s.requests.high
        at_once = min(s.completions.high, runner.in_flight * runner.workers * each)
        speed = written_per_second(size, engine, machine, at_once)
        seconds = s.completion.plus(s.prompt.times(1 / PROMPT_SPEED)).times(1 / speed).plus(seconds)
    return Line(*figures, seconds)


def _engine(planner: Planner, s: Planned) -> Any:
    """Return the section of the engine that a stage asks."""
    if s.engine is not None:
        return s.engine
    if s.stage not in _GENERATING:
        return _evaluator(planner.recipe)
    seat = chosen_by(planner.method, s.stage, int(s.round))
    return (seat and seat.engine) or planner.recipe.engine


def _evaluator(recipe: Recipe) -> Any:
    local = VllmEngine() if recipe.engine.implementation.is_endpoint else recipe.engine
    return recipe.evaluate.engine or local


def _memory_problems(recipe: Recipe, size: ModelSize, machine: Machine, needs: list[Need]) -> Iterator[str]:
    for need in needs:
        if not need.available or need.total <= need.available:
            continue
        where = f"a GPU ({machine.gpus[0].name})" if machine.gpus else "this machine"
        change = _train_change(recipe, size, machine) if need.name == "training" else _engine_change(machine)
        yield (
            f"The {need.name} does not fit: it needs about {need.total / 2**30:.1f} GiB, and {where} has "
            f"{need.available / 2**30:.1f} for it. {change}"
        )


def _engine_change(machine: Machine) -> str:
    if machine.gpus:
        return "Raise engine.tensor_parallel_size, lower engine.args.max_model_len, or take a smaller model."
    return "Lower engine.replicas, engine.cpu_kv_gib or engine.args.max_num_seqs, or take a smaller model."


def _train_change(recipe: Recipe, size: ModelSize, machine: Machine) -> str:
    """Return the smallest change of `train` with which the training fits."""
    shared: list[tuple[str, dict[str, Any]]] = [
        ("train.workers: auto and train.shard: auto", {"workers": "auto", "shard": "auto"})
    ]
    changes: list[tuple[str, dict[str, Any]]] = [
        *(shared if len(machine.gpus) > 1 else []),
        ("train.micro_batch_size: 1", {"micro_batch_size": 1}),
        ("train.lora: {r: 16}", {"lora": {"r": 16}}),
        ("train.lora: {r: 16} and train.micro_batch_size: 1", {"lora": {"r": 16}, "micro_batch_size": 1}),
    ]
    for words, change in changes:
        train = type(recipe.train).model_validate({**recipe.train.model_dump(mode="json"), **change})
        need = training_need(size, settled(train, machine.gpus, size), machine)
        if need.total <= need.available:
            return f"It fits with {words}."
    return "Not even with train.lora and train.micro_batch_size: 1; take a smaller model or train.max_length."


def _disk(recipe: Recipe, size: ModelSize, lines: list[Line], taught: list[Training]) -> int:
    """Return the bytes that the rest of the run writes and keeps, and its largest checkpoints."""
    models = sum(2 * size.parameters for t in taught if not t.done)
    checkpoints = 0 if all(t.done for t in taught) else (2 if recipe.train.lora else 24) * size.parameters
    tokens = sum(
        _or_zero(line.prompt.high) + _or_zero(line.completion.high)
        for line in lines
        if not line.trains and not line.done
    )
    return int(models + checkpoints + TEXT_BYTES * tokens)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _free(run: RunDir) -> int | None:
    if run.local is None:
        return None
    return shutil.disk_usage(next(p for p in (run.local, *run.local.parents) if p.is_dir())).free


def _notes(
    planner: Planner, lines: list[Line], measured: Mapping[str, Measured], begun: RunDir | None
) -> Iterator[str]:
    unknown = list(dict.fromkeys(line.stage for line in lines if not line.known))
    if unknown:
        yield (
            f"Unknown: {', '.join(unknown)} of method {planner.method.name}, which does not say what it asks "
            "(pipeline.protocols.Plans). --sample N asks the model N questions and measures it."
        )
    if measured:
        source = "this run has measured them" if begun else "the sample measured them"
        yield f"Rows, tokens and speed of {', '.join(measured)}: as {source}; all else is estimated."
    if "generate" not in measured:
        yield (
            f"A completion is taken to have {SHARE:.0%} of its max_tokens, and speeds are estimated from the "
            "model's parameters and this machine. --sample N asks the model N questions and measures both."
        )
    if any(line.seconds is None and line.known for line in lines):
        yield "Minutes are without the stages whose engine's speed is not known: ?"
    if planner.recipe.runner.address:
        yield "Memory, disk and speed are this machine's: the cluster's nodes are not looked at."


def _changed(run: RunDir, recipe: Recipe) -> bool:
    old, new = run.recipe().model_dump(mode="json"), recipe.model_dump(mode="json")
    return any(not may_change(key, recipe) for key, _, _ in differences(old, new))


def _tokenizer(round_: Round, size: ModelSize) -> Any:
    if any(Path(size.folder).glob("*.safetensors")):
        return round_.tokenizer
    from transformers import AutoTokenizer  # of a model whose weights are not downloaded yet

    return AutoTokenizer.from_pretrained(size.folder, trust_remote_code=round_.recipe.model.trust_remote_code)
