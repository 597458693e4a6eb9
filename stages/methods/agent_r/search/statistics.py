"""What a stage's trees and records add up to: for the manifest, `selfloop inspect` and the terminal."""

from collections import Counter
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from pipeline.rows import Row
from stages.methods.agent_r.search.game import Game
from stages.methods.agent_r.search.tree import CUT_OFF, REFUSED, Tree

SUMMED = ("llm_calls", "environment_steps", "states_restored", "children", "leaves")
UNREADABLE = "unreadable"  # a judgement that cannot be parsed; it counts as uncertain
SOLVED = 1.0  # reward of an episode that reached its goal


def search_counts(tree: Tree, game: Game) -> dict[str, Any]:
    """Return what a search cost and reached, for payload["search"]."""
    made, leaves = len(tree.nodes) - 1, tree.leaves()
    steps = game.steps + game.replayed
    return {
        "llm_calls": sum(bool(n.children) or n.end in (REFUSED, CUT_OFF) for n in tree.nodes),
        "environment_steps": steps,
        "states_restored": game.restored,
        "children": made,
        "steps_per_child": round(steps / made, 3) if made else 0.0,
        "leaves": len(leaves),
        "best_reward": max((leaf.reward for leaf in leaves), default=0.0),
    }


def search_facts(kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return the totals over the trees of generate.

    `steps_per_child`: environment steps per child (the paper's released code takes 10).
    """
    total: Counter[str] = Counter()
    for row in kept:
        counts = row.payload["search"]
        total.update({name: counts[name] for name in SUMMED})
        total.update(trees=1, solved=counts["best_reward"] >= SOLVED)
    children = total["children"]
    per_child = round(total["environment_steps"] / children, 3) if children else None
    return {
        **{name: total[name] for name in ("trees", "solved", *SUMMED)},
        "steps_per_child": per_child,
        "note": f"{total['trees']} trees, {total['solved']} of them with an episode that reached the goal: "
        f"{total['llm_calls']:,} LLM calls, {children:,} children at {per_child or 0:.2f} environment steps "
        f"each, {total['leaves']:,} leaves",
    }


def record_facts(kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return critique's totals: records by kind, judgements by label, and where the first bad steps are.

    `found_after` is the mean number of steps from where two episodes part to the first bad one, over pairs
    with one; `turned_after` the same over all pairs, with the whole bad episode where none was found.
    """
    kinds: Counter[str] = Counter()
    labels: dict[tuple[str, int], str] = {}  # by tree and node: a step is judged once for all its pairs
    found: list[int] = []
    turned: list[int] = []
    nowhere = 0
    for row in kept:
        record = row.payload
        kinds[record["kind"]] += 1
        nowhere += record["problem"] != ""
        if record["kind"] == "revision":
            first_bad, prefix = record["first_bad"], record["prefix"]
            found += [first_bad - prefix] if first_bad else []
            turned.append((first_bad or record["bad_steps"]) - prefix)
        for judged in record.get("judge", ()):
            labels[row.parents[0], judged["node"]] = judged["judgement"] if judged["read"] else UNREADABLE
    records, judgements = (dict(sorted(counts.items())) for counts in (kinds, Counter(labels.values())))
    found_after, turned_after = (round(fmean(steps), 3) if steps else None for steps in (found, turned))
    note = f"records: {_listed(records)}; a bad step was found in {len(found)} of {kinds['revision']} pairs"
    note += f", {found_after:.1f} steps after the episodes part" if found else ""
    note += f" ({turned_after:.1f} over all pairs, whole episodes where none was found)" if turned else ""
    return {
        "records": records,
        "judged": judgements,
        "bad_step_found": len(found),
        "no_place_to_turn": nowhere,
        "found_after": found_after,
        "turned_after": turned_after,
        "note": f"{note}; {nowhere} have no point of transition; steps judged: {_listed(judgements)}",
    }


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
