"""EntiGraph's search for copied runs, against comparing every window of a text with the document.

Both are measured in this one run:

python -m tests.benchmarks.copies           a document of 20,000 words, texts of 600 (half a minute)
"""

import random
import time
from collections.abc import Callable
from statistics import fmean

from stages.methods.entigraph.copies import copied

DOCUMENT_WORDS, TEXT_WORDS, TEXTS, LONGEST = 20_000, 600, 20, 200


def every_window(text: str, document: str, longest: int) -> str:
    text, document = " ".join(text.split()), " ".join(document.split())
    size = longest + 1
    return next((run for i in range(len(text) - longest) if (run := text[i : i + size]) in document), "")


def seconds(
    search: Callable[[str, str, int], str], texts: list[str], document: str
) -> tuple[float, list[str]]:
    began = time.perf_counter()
    found = [search(text, document, LONGEST) for text in texts]
    return (time.perf_counter() - began) / len(texts), found


def main() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(1, 9))) for _ in range(3000)]
    document = " ".join(rng.choices(words, k=DOCUMENT_WORDS))
    texts = [" ".join(rng.choices(words, k=TEXT_WORDS)) for _ in range(TEXTS - 1)]
    at = rng.randrange(len(document) - 500)
    texts.append(f"{texts[0]} {document[at : at + 500]}")
    before, expected = seconds(every_window, texts, document)
    after, found = seconds(copied, texts, document)
    assert found == expected and fmean(map(bool, found)) > 0
    print(
        f"copies: every window {before:.4f} s a text, hashes {after:.4f} s, "
        f"{before / after:.0f} times as fast"
    )


if __name__ == "__main__":
    main()
