"""Prints the table of pipeline/chat/README.md: what the check makes of the templates in TRL and vLLM.

python -m tests.benchmarks.chat_templates
"""

from dataclasses import replace
from typing import NamedTuple

from pipeline.chat import PLAIN
from pipeline.chat.abilities import ASKED, TOLD, Template, end_of_turn
from pipeline.chat.check import check
from pipeline.chat.settle import Settled
from pipeline.errors import ConfigError
from pipeline.models import ModelRef
from tests.chat.stand_in import shipped_templates, stand_in

QUESTION = [TOLD, ASKED]


class Verdict(NamedTuple):
    """What a template can do; `examples` and `episodes` are "yes", or why not in a few words."""

    system: str
    thoughts: str
    end: str
    examples: str
    episodes: str


def verdict(name: str, text: str) -> Verdict:
    """Return what is settled about a template, and whether its examples and episodes can be trained."""
    tokenizer = stand_in(text)
    found = Template(tokenizer, text, {})
    answers = {kind: _checked(name, found, kind) for kind in ("sft", "turns")}
    render = found.render()
    system = "folded" if found.fold else "native"
    try:
        thoughts = {"inline": "none", "train": "kept", "strip": "off"}[found.policy(None)[0]]
    except ConfigError:
        thoughts = "lost"
    if "lists of texts" in answers["sft"] or "refuses the method" in answers["sft"]:
        answers = dict.fromkeys(answers, "no: for lists of texts and images")
        system = thoughts = "-"
    short = {kind: _short(why) for kind, why in answers.items()}
    end = end_of_turn(render, set())[0]
    return Verdict(system, thoughts, f"`{end}`" if end else "none", short["sft"], short["turns"])


def _checked(name: str, found: Template, kind: str) -> str:
    found = Template(found.tokenizer, found.template, {})
    try:
        thinking, kwargs = found.policy("strip" if kind == "turns" and found.thinks else None)
        render = found.render(**kwargs)
        model = ModelRef("", name, "", chat=replace(PLAIN, thinking=thinking, tags=found.tags))
        own, found.tokenizer.chat_template = found.tokenizer.chat_template, render.template
        try:
            check(Settled(model, found.tokenizer), QUESTION, kind)
        finally:
            found.tokenizer.chat_template = own
    except ConfigError as e:
        return str(e)
    return "yes"


def _short(answer: str) -> str:
    name = answer.partition("Set model.chat_template: ")[2].partition(" ")[0]
    reasons = {
        "for lists of texts": "no: for lists of texts and images",
        "no token of its own": "no: no end token",
        "removes it from": "no: loses thoughts",
        "differently": "no: rewrites earlier turns",
    }
    why = next((short for part, short in reasons.items() if part in answer), answer)
    return why + (f"; `{name}`" if name else "")


def main() -> None:
    """Print the table."""
    print("| template | system | thoughts | end of turn | examples | episodes |\n" + "| --- " * 6 + "|")
    for name, text in shipped_templates().items():
        cells = [cell.replace("|", r"\|") for cell in verdict(name, text)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
