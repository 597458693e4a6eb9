"""Candidate records of a tree, and judged episodes, as payloads."""

from collections.abc import Sequence
from typing import Any

from pipeline.ids import row_id
from pipeline.rows import Row
from stages.methods.agent_r.episodes import LONGEST_LOOP, Episode, loops
from stages.methods.agent_r.search import SOLVED


def make_record(row: Row, kind: str, before: list[dict], after: list[dict], **facts: Any) -> Row:
    """Return a candidate record of a tree's row: the turns `before` a reflection and `after` it. The tree
    itself stays behind.
    """
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
    leaves = "/".join(map(str, facts["leaves"]))
    return Row(row_id([row.id], "critique", f"{kind}/{leaves}"), {**kept, **record}, [row.id])


def transcript(record: dict[str, Any]) -> str:
    """Return a record as text for people."""
    before, after = (
        [f"> {s['action']}\n{s['observation']}" for s in record[part]] for part in ("before", "after")
    )
    return "\n".join([*before, *filter(None, [record["reflection"]]), *after])


def judged_episode(episode: Episode) -> dict[str, Any]:
    """Return an episode as a judged answer, for evaluation."""
    return {
        "text": "\n".join(m["content"] for m in episode.messages),
        "correct": episode.reward >= SOLVED,
        "extracted": f"{episode.reward:g}",
        "tokens": episode.tokens,
        "score": episode.reward,
        "actions": episode.actions,
        "executed": episode.executed,
        "reflections": episode.reflections,
        "end": episode.end,
        "loops": loops(episode.actions),
    }


def episode_measures(episodes: Sequence[dict[str, Any]], reflections: bool) -> dict[str, list[float]]:
    """Return what `judged_episode` counted, by name; `reflections`: those of its own, beside the steps.

    Episodes of older versions have no such count: their reflections are among the steps.
    """
    said = [episode.get("reflections", 0) for episode in episodes]
    steps = [len(episode["actions"]) - n for episode, n in zip(episodes, said, strict=True)]
    return {
        "score": [episode["score"] for episode in episodes],
        "steps": [float(n) for n in steps],
        "executed": [episode["executed"] / n for episode, n in zip(episodes, steps, strict=True) if n],
        **({"reflections": [float(n) for n in said]} if reflections else {}),
        **{
            f"loops of {n}": [float(episode["loops"][n - 1]) for episode in episodes]
            for n in range(1, LONGEST_LOOP + 1)
        },
    }
