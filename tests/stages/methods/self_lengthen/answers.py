"""What the scripted engine says to Self-Lengthen.

Instructions, drafts of random words, and extensions that double them.
"""

import random
import re

from pipeline.engines.base import Request

NOUNS = (
    "rivers",
    "bridges",
    "clocks",
    "gardens",
    "trains",
    "islands",
    "maps",
    "songs",
    "kites",
    "ovens",
    "windows",
    "letters",
    "stars",
    "boats",
)
WORDS = (
    *(
        "sea",
        "sun",
        "old",
        "new",
        "town",
        "tree",
        "road",
        "bird",
        "fish",
        "king",
        "snow",
        "wind",
        "fire",
        "door",
        "hand",
        "book",
        "ship",
        "moon",
    ),
    *(
        "hill",
        "rain",
        "gold",
        "milk",
        "rose",
        "salt",
        "ring",
        "song",
        "star",
        "wall",
        "wood",
        "yard",
        "ball",
        "cake",
        "deer",
        "farm",
        "game",
        "home",
    ),
)


def writes(request: Request, index: int) -> str:
    """Answer as a model would that writes better the longer it is asked.

    Everything follows from the request's key.
    """
    rng = random.Random(request.key("") + str(index))
    asked = request.messages[-1]["content"]
    step = request.step.rsplit("/", 1)[1]
    if step == "instruct":
        if rng.random() < 0.2:
            return " Write a 500-word text about nothing."
        chosen = [rng.choice(words) for words in (NOUNS, NOUNS, NOUNS, WORDS, WORDS)]
        return " Write a long text about {} and {} for {} of {} and {}.".format(*chosen)
    if step == "judge":
        return "No." if rng.random() < 0.2 else "Yes."
    if step == "extend":
        source = asked.split("Outline:\n", 1)[1].split("\n\nExpand this outline", 1)[0]
        if rng.random() < 0.15:
            return "It was a dark night and the rain fell on the town. " * 4
        return text(rng, max(4, 2 * len(source.split()) - len(request.prefill.split())))
    if step == "ask_for_length":
        instruction, demand = re.search(r"Instruction:\n(.*)\n\nDemand: (.*)", asked).groups()
        return f"{instruction} Write {demand}." if rng.random() < 0.5 else f"Write {demand}."
    n = rng.randint(6, 20) * (2 if step == "longer" else 1)
    return text(rng, n) if rng.random() < 0.9 else text(rng, n).rstrip(".") + " and"


def text(rng: random.Random, n: int) -> str:
    """Return `n` words in paragraphs of six."""
    drawn = [rng.choice(WORDS) for _ in range(n)]
    return "\n\n".join(" ".join(drawn[i : i + 6]) + "." for i in range(0, n, 6))
