"""What a search cost and what came of it, over all trees of a stage: for the manifest, `selfloop inspect` and the terminal."""

from collections import Counter
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from pipeline.rows import Row

COUNTED = ("llm_calls", "environment_steps", "states_restored", "children", "leaves")
UNREADABLE = "unreadable"  # a judgement that is none; it counts as uncertain
SOLVED = 1.0  # reward of an episode that reached its goal


def search_facts(kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return the sums over the trees of generate, with a line for people. `steps_per_child`: environment steps by children (the released code takes 10)."""
    total: Counter[str] = Counter()
    trees = solved = 0
    for row in kept:
        found = row.payload["search"]
        total.update({name: found[name] for name in COUNTED})
        trees, solved = trees + 1, solved + (found["best_reward"] >= SOLVED)
    facts = {"trees": trees, "solved": solved, **{name: total[name] for name in COUNTED}}
    facts["steps_per_child"] = (
        round(total["environment_steps"] / total["children"], 3) if total["children"] else None
    )
    note = f"{trees} trees, {solved} with an episode that reached the goal: {total['llm_calls']:,} LLM calls, {total['children']:,} children"
    return facts | {
        "note": f"{note} at {facts['steps_per_child'] or 0:.2f} environment steps each, {total['leaves']:,} leaves"
    }


def record_facts(kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return what critique made of the trees: records by kind, judgements by label, and where in its pairs the model found the bad step.

    `found_after` is the mean number of steps from where the ways part to the first bad one, of the pairs in which one was found;
    `turned_after` that of all pairs, with the whole bad way where none was found (the paper's t', Agent-R 1.7).
    """
    kinds: Counter[str] = Counter()
    labels: dict[
        tuple[str, int], str
    ] = {}  # by tree and node: a step is judged once, and stands in every pair that it is in
    found: list[int] = []
    turned: list[int] = []
    nowhere = 0
    for row in kept:
        kinds[row.payload["kind"]] += 1
        if row.payload["kind"] == "revision":
            first_bad, prefix = row.payload["first_bad"], row.payload["prefix"]
            found += [first_bad - prefix] if first_bad else []
            turned.append((first_bad or row.payload["bad_steps"]) - prefix)
        nowhere += row.payload["problem"] != ""
        labels |= {
            (row.parents[0], j["node"]): j["judgement"] if j["read"] else UNREADABLE
            for j in row.payload.get("judge", ())
        }
    facts = {
        "records": dict(sorted(kinds.items())),
        "judged": dict(sorted(Counter(labels.values()).items())),
        "bad_step_found": len(found),
        "no_place_to_turn": nowhere,
    }
    facts |= {
        "found_after": round(fmean(found), 3) if found else None,
        "turned_after": round(fmean(turned), 3) if turned else None,
    }
    note = f"records: {_listed(facts['records'])}; the bad step was found in {len(found)} of {kinds['revision']} pairs"
    note += f", {facts['found_after']:.1f} steps after the ways part" if found else ""
    note += (
        f" ({facts['turned_after']:.1f} over all pairs, with the whole way where none was found)"
        if turned
        else ""
    )
    note += f"; {nowhere} have no place to turn round"
    return facts | {"note": f"{note}; steps judged: {_listed(facts['judged'])}"}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
