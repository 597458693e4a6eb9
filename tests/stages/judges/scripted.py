"""Answers of the scripted engine, by the request alone.

Open answers of different lengths, and judges of them.
"""

import re

from pipeline.engines.base import Request
from tests.stages.judges.asked import better, score, shown_texts


def speaks(request: Request, index: int) -> str:
    """Answer a question, or judge an answer by its number of words, sometimes in no readable way."""
    if request.step == "judge/score":
        if int(request.key("")[:2], 16) < 16:
            return "I would say 8 of 10."
        return score(min(10, 1 + len(shown_texts(request)[0].split()) // 2))
    if request.step == "judge/compare":
        a, b = (len(text) for text in shown_texts(request))
        return better("tie" if a == b else "A" if a > b else "B")
    topic = re.findall(r"\d+", request.messages[-1]["content"])[-1]
    words = 2 + int(request.key("")[index % 24 : index % 24 + 2], 16) % 18
    return f"About {topic}: " + " ".join(f"word{i}" for i in range(words))
