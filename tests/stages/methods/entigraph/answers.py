"""Answers for the scripted engine, step by step of EntiGraph.

Workers import them by name, so they are a module of their own.
"""

import json
import os
import re
import signal
from pathlib import Path

from pipeline.engines.base import Completion, Request
from stages.methods.entigraph.texts import title_of

WORDS = [
    f"{a}{b}"
    for a in ("ba", "co", "di", "fu", "gra", "ho", "ki", "lo")
    for b in ("rel", "min", "tas", "von", "sep", "dur", "qua", "zen")
]


def text_of(request: Request) -> str:
    return request.messages[-1]["content"] if request.messages else f"{request.prompt}{request.prefill}"


def filler(seed: str, words: int = 45) -> str:
    """Words that depend on `seed` alone."""
    bits = int(seed, 16)
    return " ".join(WORDS[(bits >> (i * 5 % 96)) * (i + 1) % len(WORDS)] for i in range(words))


def document_of(request: Request) -> str:
    return text_of(request).split("### Document\n", 1)[1].split("\n### ", 1)[0].strip()


def named(document: str) -> list[str]:
    """The names that the document lists, as "Things: A, B, C."."""
    return re.search(r"Things: (.*)\.", document)[1].split(", ")


def writes(request: Request, index: int) -> str | Completion:
    """Everything is as it should be; of options, which one is likely is decided by the request's hash."""
    key = request.key("")
    step = request.step.rsplit("/", 1)[-1]
    if request.step.startswith("closed_book/"):
        values = [-1.0 - int(key[i % 32], 16) / 16 for i in range(len(request.prefill.split()))]
        return Completion("x", "length", len(text_of(request).split()), 1, None, values or [-1.0])
    if step == "entities":
        document = document_of(request)
        return json.dumps(
            {
                "summary": f"{title_of(document)}: {filler(key, 20)}.",
                "entities": [*named(document), "Atlantis"],
            }
        )
    if step == "relation":
        entities = re.search(r"its entities: (.*?)\. |sentences about (.*?): what", text_of(request))
        entities = (entities[1] or entities[2]).split("; ")
        title = title_of(document_of(request))
        sections = [
            f"### {title} in relation to {e}\n{filler(key[i:] + key[:i])}." for i, e in enumerate(entities)
        ]
        return "\n\n".join(
            [*sections, f"### Interaction of {', '.join(entities)} in {title}\n{filler(key[5:] + key[:5])}."]
        )
    if step == "judge":
        faithful = int(key[:2], 16) % 4 != 0
        return json.dumps({"unsupported": [] if faithful else ["a claim"], "faithful": faithful})
    title = f"{title_of(document_of(request))}: " if "### Document\n" in text_of(request) else ""
    return f"{title}{step} {filler(key)}."


def dies_once(request: Request, index: int) -> str | Completion:
    """As `writes`; the ninth relation that is asked for kills the process.

    Others of its document are under way then, and some are done.
    """
    if request.step.endswith("/relation"):
        folder = Path(re.search(r"\[(.*?)\]", text_of(request))[1])
        (folder / request.key("")).touch()
        if len(list(folder.iterdir())) == 9:
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return writes(request, index)
