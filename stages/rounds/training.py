"""What a round trains, and on what: supervised, on preference pairs or labeled answers, both in turn, or on
plain texts (train.kind).
"""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline import cluster, sharing
from pipeline.config import Recipe
from pipeline.console import progress as console
from pipeline.display import TrainDisplay
from pipeline.errors import StageError
from pipeline.methods import Method
from pipeline.models import ModelRef, resolve_model, with_adapters
from pipeline.publish import DPO, KTO, SFT, Kind, Mixture, mixture
from pipeline.round import Round
from pipeline.stage import LABELS, PAIRS, TRAIN, TRAIN_SFT
from pipeline.store import files
from pipeline.training import TrainResult, TrainSpec
from pipeline.training.checks import check_training
from pipeline.training.spec import fingerprint
from stages.rounds.published_rows import dataset_name, published_kind
from stages.steps import labels, preferences

# What the manifests of a kind must count, and what is said if they do not.
_NEEDED = {DPO.name: ("rows",), KTO.name: ("right", "wrong")}
_LACKING = {
    DPO.name: (
        "preference pair to train on (accumulate.policy {policy}): a pair needs two answers to one question, "
        "a right and a wrong one or two scores (preferences.pairs)",
        PAIRS,
    ),
    KTO.name: ("right and wrong answers to train on (accumulate.policy {policy})", LABELS),
}


def preference_kind(recipe: Recipe, round_: int) -> Kind | None:
    """Return on what a round trains that has wrong answers in it: pairs, labeled answers, or nothing.

    In round 0 it is nothing: demonstrations come without wrong answers.
    """
    return {"dpo": DPO, "kto": KTO}.get(recipe.train.preference) if round_ > 0 else None


def check(recipe: Recipe, method: Method, base: Callable[[], ModelRef] | None) -> None:
    """Raise ConfigError for settings with which a training of the run would fail to start.

    Without `base`, those are not found that do not suit the model.
    """
    if recipe.train.preference == "dpo":
        preferences.check_pairs(method, recipe.preferences)
    if recipe.train.preference == "kto":
        labels.check_labels(method)
    check_training(recipe.train, _kinds(recipe, method), base, recipe.model.trust_remote_code)


def rates(recipe: Recipe, method: Method) -> str:
    """Return a line that says with which learning rates the run trains, and where they come from."""
    names = ["cpt" if kind.blocks else kind.command for kind in _kinds(recipe, method)]
    found = {name: recipe.train.rate(name) for name in names}
    said = "; ".join(f"{name} {rate:g} ({why})" for name, (rate, why) in found.items())
    return f"learning rate: {said}"


def _kinds(recipe: Recipe, method: Method) -> list[Kind]:
    """Return what the rounds of a run train on."""
    kind, train = preference_kind(recipe, recipe.rounds), recipe.train
    supervised = train.kind != train.preference or recipe.demonstrations is not None
    return [*([published_kind(method)] if supervised else []), *([kind] if kind else [])]


def train_round(round_: Round, start: ModelRef, base: ModelRef, roles: Sequence[str] = ("",)) -> TrainResult:
    """Train a round's model from `start`, or an adapter per role, and return the last result. Resumes, or
    finds it done.

    sft_then_dpo and sft_then_kto train twice: models/round-NNN-sft is the supervised model, from which the
    round's own is trained. Raises StageError for kind dpo or kto when there is nothing to train on.
    """
    if tuple(roles) != ("",):
        return _train_roles(round_, start, base, roles)
    run, recipe, number = round_.run, round_.recipe, int(round_.number)
    kinds = [published_kind(round_.method)]
    if kind := preference_kind(recipe, number):
        wanted = [kind] if recipe.train.kind == kind.name else [SFT, kind]
        kinds = wanted if _enough(_mixture(round_, kind), kind) else _without(round_, kind)
    if len(kinds) == 2:
        between, done = run.model(number, SFT.name), files.join(round_.folder(TRAIN), "train.json")
        if files.exists(done) and not files.exists(files.join(between, "config.json")):
            return TrainResult(
                **files.read_json(done)
            )  # the model in between was removed to save space: not needed any more
        _train(round_, SFT, start, None, TRAIN_SFT, between)
        start = replace(resolve_model(between), chat=base.chat)
    own, _ = recipe.train.section(recipe.train.preference)
    from_base = getattr(own, "reference", "start") == "base" and base.revision != start.revision
    reference = base if from_base else None
    return _train(round_, kinds[-1], start, reference, TRAIN, run.model(number))


def _train(
    round_: Round, kind: Kind, start: ModelRef, reference: ModelRef | None, name: str, out: str
) -> TrainResult:
    run, recipe = round_.run, round_.recipe
    spec = TrainSpec(
        model=start,
        out=out,
        work=round_.folder(name),
        mixture=_mixture(round_, kind),
        train=recipe.train,
        seed=recipe.seed,
        trust_remote_code=recipe.model.trust_remote_code,
        kind=kind,
        reference=reference if kind in (DPO, KTO) else None,
        replay=run.tasks("replay") if kind.blocks and recipe.train.cpt.replay else None,
    )
    title = f"round {round_.number}, train" + ("" if recipe.train.kind == "sft" else f" ({kind.name})")
    return _run(round_, spec, title)


def _train_roles(round_: Round, start: ModelRef, base: ModelRef, roles: Sequence[str]) -> TrainResult:
    """Train models/round-NNN/<role> for each role, from that role's adapter in `start`; train.json sums them
    up.

    A role without examples keeps the adapter it starts from, if it has one; else the base model plays it.
    """
    run, recipe, number = round_.run, round_.recipe, int(round_.number)
    results, kind = [], published_kind(round_.method)
    for role in roles:
        data, out = _mixture(round_, kind, role), files.join(run.model(number), role)
        adapter = dict(start.adapters).get(role)
        if not _rows(data):
            if adapter and not Path(out).exists():
                with files.atomic_folder(Path(out)) as aside:
                    shutil.copytree(adapter, aside, dirs_exist_ok=True)
                console.print(
                    f"round {number}: no examples for the {role}; its adapter stays as it was", markup=False
                )
            continue
        spec = TrainSpec(
            model=base,
            out=out,
            work=round_.folder(f"{TRAIN}_{role}"),
            mixture=data,
            train=recipe.train,
            seed=recipe.seed,
            trust_remote_code=recipe.model.trust_remote_code,
            kind=kind,
            role=role,
            adapter=adapter,
        )
        results.append(_run(round_, spec, f"round {number}, train ({role})"))
    if not results:
        raise StageError(
            f"round {number} has nothing to train on: no role has an example (accumulate.policy "
            f"{recipe.accumulate.policy})."
        )
    model = with_adapters(base, run.model(number), roles)
    total = _sum(results, model=run.model(number), revision=model.revision)
    files.write_json(files.join(round_.folder(TRAIN), "train.json"), asdict(total))
    return total


def _run(round_: Round, spec: TrainSpec, title: str) -> TrainResult:
    cluster.set_environment()  # before Ray Train is imported
    from pipeline.training.launch import (
        train,  # imports torch and transformers, seconds that other jobs do without
    )

    if round_.run.twins:
        sharing.take_over_training(round_.run, spec.work, spec.out, fingerprint(spec))
    display = TrainDisplay(title)
    try:
        result = train(spec, display.update, round_.recipe.runner.address)
    finally:
        display.stop()
    display.close(result)
    return result


def _sum(results: Sequence[TrainResult], **fields: Any) -> TrainResult:
    """Return several trainings as one: counts are added up, everything else is the last one's."""
    tokens, seconds = sum(r.tokens for r in results), sum(r.seconds for r in results)
    rounds: Counter[str] = Counter()
    for result in results:
        rounds.update(result.shares["rounds"])
    kinds = {kind: sum(r.shares[kind] for r in results) for kind in ("real", "synthetic")}
    counts = {name: sum(getattr(r, name) for r in results) for name in ("steps", "examples", "left_out")}
    return replace(
        results[-1],
        **counts,
        tokens=tokens,
        seconds=round(seconds, 3),
        tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
        shares=kinds | {"rounds": dict(rounds)},
        **fields,
    )


def _mixture(round_: Round, kind: Kind, role: str = "") -> Mixture:
    """Return what the round trains on: the published datasets of all rounds so far, by accumulate.policy."""
    number, name = int(round_.number), dataset_name(kind, role)
    folders = {r: round_.run.dataset(name, r) for r in range(number + 1)}
    available = {r: f for r, f in folders.items() if files.exists(files.join(f, "manifest.json"))}
    recipe = round_.recipe
    distinct = recipe.preferences.distinct if kind in (DPO, KTO) else recipe.filters.drop_duplicates
    return mixture(recipe.accumulate, number, available, distinct)


def _rows(data: Mixture) -> int:
    return sum(files.read_json(files.join(part.path, "manifest.json"))["rows"] for part in data.parts)


def _enough(data: Mixture, kind: Kind) -> bool:
    """Tell whether there is something to train on; labeled answers have to be right and wrong ones."""
    found = [files.read_json(files.join(part.path, "manifest.json")) for part in data.parts]
    return all(sum(manifest[name] for manifest in found) for name in _NEEDED[kind.name])


def _without(round_: Round, kind: Kind) -> list[Kind]:
    """Return what is trained when there are no pairs, or no right and wrong answers.

    Raises StageError for kinds dpo and kto, which then have nothing.
    """
    root, number, recipe = round_.run.root, int(round_.number), round_.recipe
    lacks, stage = _LACKING[kind.name]
    why = (
        f"round {number} has no {lacks.format(policy=recipe.accumulate.policy)}. See selfloop inspect "
        f"--run {root} --round {number} --stage {stage}"
    )
    if recipe.train.kind == kind.name:
        raise StageError(
            f"{why}. More samples per question, or a higher sampling.temperature, make more. "
            f"To continue without: selfloop branch {root} --to DIR --round {number - 1} --set "
            f"train.kind=sft_then_{kind.name}"
        )
    console.print(
        f"warning: {why}. It is trained on right answers alone (sft).", style="yellow", markup=False
    )
    return [SFT]
