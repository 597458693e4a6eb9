"""What a round trains, and on what: supervised, on preference pairs, one after the other, or on texts (train.kind)."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.config import Recipe
from pipeline.display import TrainDisplay, console
from pipeline.errors import StageError
from pipeline.methods import TRAIN, TRAIN_SFT
from pipeline.models import ModelRef, resolve_model, with_adapters
from pipeline.publish import DPO, SFT, Kind, Mixture, mixture
from pipeline.rundir import RunDir
from pipeline.store import files
from pipeline.training import TrainResult, TrainSpec
from stages.rounds.published_rows import dataset_name, published_kind


def _supervised(recipe: Recipe) -> Kind:
    """Return the kind of dataset that the recipe's method publishes its examples, or texts, as."""
    return published_kind(registry.resolve("method", recipe.method["name"]))


def wants_pairs(recipe: Recipe, round_: int) -> bool:
    """Tell whether a round trains on preference pairs. Round 0 does not: demonstrations have no wrong answers beside them."""
    return recipe.train.kind in ("dpo", "sft_then_dpo") and round_ > 0


def train_round(
    run: RunDir, round_: int, recipe: Recipe, start: ModelRef, base: ModelRef, roles: Sequence[str] = ("",)
) -> TrainResult:
    """Train a round's model from `start` (or an adapter for each of `roles`), and return what came out last. The same call goes on, or finds all of it done.

    sft_then_dpo trains in two folders: the supervised model is models/round-NNN-sft, from which the round's own is trained.
    Raises StageError for kind dpo when there is no pair to train on.
    """
    if tuple(roles) != ("",):
        return _train_roles(run, round_, recipe, start, base, roles)
    kinds = [_supervised(recipe)]
    if wants_pairs(recipe, round_):
        pairs = _pairs(run, round_, recipe)
        kinds = (
            {"dpo": [DPO], "sft_then_dpo": [SFT, DPO]}[recipe.train.kind]
            if pairs
            else _without_pairs(run, round_, recipe)
        )
    sft = run.model(round_, SFT.name)
    if (
        kinds == [SFT, DPO]
        and files.exists(files.join(run.stage(round_, TRAIN), "train.json"))
        and not files.exists(files.join(sft, "config.json"))
    ):
        return TrainResult(
            **files.read_json(files.join(run.stage(round_, TRAIN), "train.json"))
        )  # somebody made room: the model between is not needed
    if kinds == [SFT, DPO]:
        _train(run, round_, recipe, SFT, start, None, TRAIN_SFT, sft)
        start = resolve_model(sft)
    reference = base if recipe.train.dpo.reference == "base" and base.revision != start.revision else None
    return _train(run, round_, recipe, kinds[-1], start, reference, TRAIN, run.model(round_))


def _train_roles(
    run: RunDir, round_: int, recipe: Recipe, start: ModelRef, base: ModelRef, roles: Sequence[str]
) -> TrainResult:
    """Train models/round-NNN/<role> for each role, from that role's adapter in `start` on; train.json sums them up.

    A role without examples keeps the adapter that it starts from, if it has one; else the base model plays it.
    """
    from pipeline.training.launch import train

    results, kind = [], _supervised(recipe)
    for role in roles:
        data, out, adapter = (
            _mixture(run, round_, recipe, kind, role),
            files.join(run.model(round_), role),
            dict(start.adapters).get(role),
        )
        if not _rows(data):
            if adapter and not Path(out).exists():
                with files.atomic_folder(Path(out)) as aside:
                    shutil.copytree(adapter, aside, dirs_exist_ok=True)
                console.print(
                    f"round {round_}: no example for the {role}, whose adapter stays as it was", markup=False
                )
            continue
        spec = TrainSpec(
            model=base,
            out=out,
            work=run.stage(round_, f"{TRAIN}_{role}"),
            mixture=data,
            train=recipe.train,
            seed=recipe.seed,
            trust_remote_code=recipe.model.trust_remote_code,
            kind=kind,
            role=role,
            adapter=adapter,
        )
        display = TrainDisplay(f"round {round_}, train ({role})")
        results.append(train(spec, display.update))
        display.close(results[-1])
    if not results:
        raise StageError(
            f"round {round_} has nothing to train on: no role has an example (accumulate.policy {recipe.accumulate.policy})."
        )
    model = with_adapters(base, run.model(round_), roles)
    total = _sum(results, model=run.model(round_), revision=model.revision)
    files.write_json(files.join(run.stage(round_, TRAIN), "train.json"), asdict(total))
    return total


def _sum(results: Sequence[TrainResult], **fields: Any) -> TrainResult:
    """Return several trainings as one: what can be counted is added up, the rest is the last one's."""
    tokens, seconds = sum(r.tokens for r in results), sum(r.seconds for r in results)
    rounds = Counter()
    for result in results:
        rounds.update(result.shares["rounds"])
    shares = {kind: sum(r.shares[kind] for r in results) for kind in ("real", "synthetic")} | {
        "rounds": dict(rounds)
    }
    return replace(
        results[-1],
        steps=sum(r.steps for r in results),
        examples=sum(r.examples for r in results),
        left_out=sum(r.left_out for r in results),
        tokens=tokens,
        seconds=round(seconds, 3),
        tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
        shares=shares,
        **fields,
    )


def _train(
    run: RunDir,
    round_: int,
    recipe: Recipe,
    kind: Kind,
    start: ModelRef,
    reference: ModelRef | None,
    name: str,
    out: str,
) -> TrainResult:
    from pipeline.training.launch import (
        train,  # torch and transformers take seconds, which other jobs need not wait
    )

    spec = TrainSpec(
        model=start,
        out=out,
        work=run.stage(round_, name),
        mixture=_mixture(run, round_, recipe, kind),
        train=recipe.train,
        seed=recipe.seed,
        trust_remote_code=recipe.model.trust_remote_code,
        kind=kind,
        reference=reference if kind == DPO else None,
        replay=run.tasks("replay") if kind.blocks and recipe.train.cpt.replay else None,
    )
    display = TrainDisplay(
        f"round {round_}, train" if recipe.train.kind == "sft" else f"round {round_}, train ({kind.name})"
    )
    result = train(spec, display.update)
    display.close(result)
    return result


def _mixture(run: RunDir, round_: int, recipe: Recipe, kind: Kind, role: str = "") -> Mixture:
    folders = {r: run.dataset(dataset_name(kind, role), r) for r in range(round_ + 1)}
    return mixture(
        recipe.accumulate,
        round_,
        {r: f for r, f in folders.items() if files.exists(files.join(f, "manifest.json"))},
    )


def _pairs(run: RunDir, round_: int, recipe: Recipe) -> int:
    """Count the pairs that a round's mixture has."""
    return _rows(_mixture(run, round_, recipe, DPO))


def _rows(data: Mixture) -> int:
    return sum(files.read_json(files.join(part.path, "manifest.json"))["rows"] for part in data.parts)


def _without_pairs(run: RunDir, round_: int, recipe: Recipe) -> list[Kind]:
    """Return what is trained when there are no pairs; with kind dpo nothing can be. Raises StageError."""
    why = (
        f"round {round_} has no preference pair to train on (accumulate.policy {recipe.accumulate.policy}): a pair needs a right and a "
        f"wrong answer to one question. See selfloop inspect --run {run.root} --round {round_} --stage pairs"
    )
    if recipe.train.kind == "dpo":
        raise StageError(
            f"{why}. More samples per question, or sampling.temperature higher, make more. "
            f"To go on without: selfloop branch {run.root} --to DIR --round {round_ - 1} --set train.kind=sft_then_dpo"
        )
    console.print(
        f"warning: {why}. It is trained on right answers alone (sft).", style="yellow", markup=False
    )
    return [SFT]
