"""Drawing a tree: what it shows, and that nothing a model wrote is markup, in a terminal or in a file."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.trees import draw, save
from pipeline.errors import ConfigError
from stages.methods.agent_r.search import DEPTH, DONE, Node, Tree

HOSTILE = "\x1b[31m<script>alert(1)</script> [bold]x[/bold] & \u202eback"


def child(action: str, reward: float = 0.0, end: str = "") -> Node:
    return Node(0, None, 0, f"Action: {action}", action, f"seen {HOSTILE}", reward, True, action, end)


def facts() -> dict[str, Any]:
    """0 -> 1 (good leaf), 2 -> 4 (bad leaf), 5 (never expanded); 3 (never expanded)."""
    tree = Tree("start", "s")
    tree.grow(tree.root, [child("right", 1.0, DONE), child(HOSTILE), child("aside")])
    tree.grow(tree.nodes[2], [child("wrong", 0.0, DEPTH), child("elsewhere")])
    judge = [{"step": 1, "node": 2, "judgement": "good"}, {"step": 2, "node": 4, "judgement": "bad"}]
    records = [
        {
            "id": "r1",
            "kind": "revision",
            "leaves": [1, 4],
            "prefix": 0,
            "t_prime": 2,
            "judge": judge,
            "fate": "",
        },
        {
            "id": "r2",
            "kind": "good",
            "leaves": [1],
            "prefix": None,
            "t_prime": None,
            "judge": None,
            "fate": "",
        },
    ]
    return {"id": "t", "task": "the task", "nodes": tree.to_json(), "search": {}, "records": records}


def drawn(full: bool = False) -> str:
    screen = Console(file=io.StringIO(), width=300)
    screen.print(draw(facts(), full))
    return screen.file.getvalue()


def test_visits_value_reward_pairs_and_the_judged_error_are_shown() -> None:
    lines = {line.strip("│├└─ ").split("  ")[0]: line for line in drawn().splitlines()}
    assert "visits 2, value 0.50" in lines["start"]
    assert (
        "done, reward 1" in lines["right"]
        and "[good of pairs: 1]" in lines["right"]
        and "[trained on whole: 1]" in lines["right"]
    )
    assert (
        "depth, reward 0" in lines["wrong"]
        and "[bad of pairs: 1]" in lines["wrong"]
        and "<- judged bad" in lines["wrong"]
    )
    assert "1 more, not expanded" in drawn() and "aside" not in drawn() and "aside" in drawn(full=True)


def test_what_a_model_wrote_is_neither_markup_nor_control() -> None:
    assert "\x1b" not in drawn() and "\u202e" not in drawn() and "[bold]x[/bold]" in drawn()


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_files_are_written_with_everything_escaped(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"tree.{ending}"
    save(draw(facts()), str(path), HOSTILE)
    text = path.read_text()
    assert "<script>" not in text and "\x1b" not in text
    assert "script" in text and "judged" in text and re.search(r"&lt;", text)


def test_another_ending_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="svg or .html"):
        save(draw(facts()), str(tmp_path / "tree.png"), "t")
