"""Makes the two files beside it from Debian's package dict-devil: python data/dictionary/make.py PACKAGE.deb

Ambrose Bierce's The Devil's Dictionary (1911): the prose of each entry of 10 to 60 words, without its verse.
Entries that mock people for their origin, religion or sex are left out. Every fourth one goes to held_out.jsonl,
the others to definitions.jsonl.
"""

import gzip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
WORDS = range(10, 61)
PARTS = {"n.": "noun", "adj.": "adjective", "v.t.": "verb", "v.i.": "verb"}
ENTRY = re.compile(r"^([A-Z][A-Z' -]+), (n\.|adj\.|v\.t\.|v\.i\.)\s+(.*?)(?:\n\n|\Z)", re.S | re.M)
MOCKS = re.compile(
    r"\b(wom[ae]n|female|girl|wife|wives|mistress|widow|sex|negro|black|african|indian|savage|jew|hebrew|"
    r"israel|moham|moslem|turk|chin[ae]|mongol|race|heathen|christ|god|church|irish|aborig)",
    re.I,
)


def entries(text: str) -> list[dict[str, str]]:
    """Return question and solution of each entry, in the order of the book."""
    found = {}
    for word, part, body in ENTRY.findall(text):
        said = " ".join(re.sub(r"(?<=\w)-\n(?=\w)", "-", body).split())
        if len(said.split()) in WORDS and not MOCKS.search(f"{word} {said}"):
            found[word] = {"question": f'Define "{word.lower()}" ({PARTS[part]}).', "solution": said}
    return list(found.values())


def main(package: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg", "-x", package, folder], check=True)
        text = gzip.decompress(Path(folder, "usr/share/dictd/devil.dict.dz").read_bytes()).decode()
    found = entries(text)
    held_out = found[3::4]
    for name, some in (("definitions", [e for e in found if e not in held_out]), ("held_out", held_out)):
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in some]
        (HERE / f"{name}.jsonl").write_text("".join(lines))
        print(f"{name}.jsonl: {len(lines)}")


if __name__ == "__main__":
    main(sys.argv[1])
