"""Judge a run's answers again: python -m jobs.reverify SOURCE --to DIR --set verifier=..."""

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs.common import AddressOption, JsonOption, SetOption, check_run, main, open_run, say
from jobs.showing import print_json, show, show_field
from pipeline.config import load_recipe
from pipeline.console import console
from pipeline.errors import ConfigError, SelfloopError
from pipeline.generations import generated_rounds, take_over
from pipeline.rundir import RunDir
from stages.rounds.reverify import KEPT, changes, is_judged, judge_again


def reverify(
    source: Annotated[str, typer.Argument(help="run directory whose answers are judged again")],
    to: Annotated[str, typer.Option("--to", help="run directory for the new verdicts", show_default=False)],
    rounds: Annotated[
        list[int] | None,
        typer.Option("--round", min=1, help="a round to judge; may be repeated; default: all generated ones"),
    ] = None,
    number: Annotated[int, typer.Option("-n", min=0, help="examples of each change")] = 3,
    set: SetOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run other filters and verifiers over the stored answers of a run, and print which verdicts change.

    Nothing is generated again, and SOURCE stays as it is. The same command resumes.
    """
    check_run(source, "SOURCE")
    check_run(to, "--to")
    old, new = RunDir(source), RunDir(to)
    before = old.recipe()  # raises when there is no run
    recipe = load_recipe(old.path("run.yaml"), set or ())
    chosen = _rounds(old, rounds)
    take_over(old, new, recipe, chosen)
    if not all(is_judged(new, r) for r in chosen):
        with open_run(new.root, None, None, address) as (_, frozen):
            asyncio.run(judge_again(old, new, frozen, chosen))
    found = [changes(old, new, r, number) for r in chosen]
    if as_json:
        print_json({"source": old.root, "run": new.root, "rounds": found})
    else:
        _show(found)
    published = (before.filters.near_duplicates, before.filters.drop_duplicates)
    if published != (recipe.filters.near_duplicates, recipe.filters.drop_duplicates):
        say("note: duplicates are dropped when answers are published, and are not counted here")
    _say_what_next(old, new, chosen)


def _rounds(run: RunDir, wanted: list[int] | None) -> list[int]:
    there = generated_rounds(run)
    if not there:
        raise SelfloopError(f"{run.root}: no round has finished generate and critique yet.")
    if missing := sorted({*(wanted or ())} - {*there}):
        raise ConfigError(
            f"--round {missing[0]}: {run.root} has not finished generate and critique of this round; "
            f"those it has are {', '.join(map(str, there))}."
        )
    return sorted({*wanted}) if wanted else there


def _show(found: list[dict[str, Any]]) -> None:
    table = Table(title="verdicts", title_justify="left")
    names = ("answers", "kept before", "kept now", "kept -> dropped", "dropped -> kept", "other reason")
    for name in ("round", *names):
        table.add_column(name, justify="left" if name == "round" else "right")
    for facts in found:
        table.add_row(str(facts["round"]), *map(str, _cells(facts)))
    console.print(table)
    sent, logged = (sum(facts[key] for facts in found) for key in ("requests", "from_log"))
    replies = f", {logged:,} replies were in the log" if logged else ""
    show(f"0 answers generated; filter and verify sent {sent:,} requests{replies}")
    for facts in found:
        for change in facts["changed"]:
            show()
            what = f"round {facts['round']}: {change['before']} -> {change['now']}"
            show(f"{what}, {change['answers']:,} answers", style="bold")
            for example in change["examples"]:
                _show_example(example)


def _cells(facts: dict[str, Any]) -> list[Any]:
    kept = ["not judged" if facts[k] is None else facts[k].get(KEPT, 0) for k in ("before", "now")]
    if facts["before"] is None:
        return [facts["answers"], *kept, "", "", ""]
    kinds = (lambda c: c["before"] == KEPT), (lambda c: c["now"] == KEPT), (lambda c: True)
    left, counts = facts["changed"], []
    for kind in kinds:
        counts.append(sum(c["answers"] for c in left if kind(c)))
        left = [c for c in left if not kind(c)]
    return [facts["answers"], *kept, *counts]


def _show_example(example: dict[str, str]) -> None:
    show_field("row", example["row"], 2)
    for name in ("question", "answer", "before", "now"):
        if example[name]:
            show_field(name, example[name], 4)


def _say_what_next(old: RunDir, new: RunDir, rounds: list[int]) -> None:
    """Say where a run under the new verdicts can go on, and what the later rounds' answers are."""
    first, *later = rounds
    if later and old.recipe().engine.implementation.serves_trained_models:
        which = f"round {later[0]}" if len(later) == 1 else f"rounds {later[0]} to {later[-1]}"
        say(
            f"note: the answers of {which} come from models that were trained on what the old verdicts kept. "
            f"Under the new ones the models differ from round {first} on. To make that run, give --round "
            f"{first} and another --to, and continue with the command that is printed then."
        )
    else:
        say(f"continue with: selfloop iterate {new.path('run.yaml')} --run {new.root}")


if __name__ == "__main__":
    main(reverify)
